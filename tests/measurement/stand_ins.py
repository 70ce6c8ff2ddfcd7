"""A clock and a library that need no GPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from measurement.measure import Device
from measurement.timing import Samples


class FakeClock:
    """Every call is made once and takes what `time_us` says of it; `timed` counts calls per situation."""

    def __init__(self, time_us: Callable[[Any], float] = lambda output: 10.0):
        self.time_us = time_us
        self.timed: dict[str, int] = {"cold": 0, "warm": 0}

    def _samples(self, situation: str, call: Callable[[], Any], runs: int, factor: float) -> Samples:
        self.timed[situation] += 1
        middle = self.time_us(call()) * factor
        return Samples(tuple(middle + 0.01 * (number - (runs - 1) / 2) for number in range(runs)), f"fake {situation}")

    def cold(self, call: Callable[[], Any], runs: int) -> Samples:
        return self._samples("cold", call, runs, 1.0)

    def warm(self, call: Callable[[], Any], runs: int) -> Samples:
        return self._samples("warm", call, runs, 0.5)


class FakeCuSparseLt:
    """cuSPARSELt's three calls in plain arithmetic; `fault` spoils the result of one algorithm."""

    def __init__(self, fault: str = "", found: tuple[int, int, int] = (3, 2, 1)):
        self.fault, self.found = fault, found
        self.ran: list[int] = []

    def missing(self) -> str:
        return ""

    def compress(self, weight: Tensor) -> Tensor:
        return weight

    def search(self, compressed: Tensor, dense: Tensor, out: torch.dtype | None) -> tuple[int, int, int]:
        return self.found

    def run(
        self, compressed: Tensor, dense: Tensor, out: torch.dtype | None, alg: int, split: int, mode: int
    ) -> Tensor:
        self.ran.append(alg)
        if self.fault == "refuses":
            raise RuntimeError("CUDA error: operation not supported when\ncalling `cusparseLtMatmulPlanInit`")
        wide = torch.float64 if compressed.dtype == torch.int8 else torch.float32
        result = (compressed.float().to(wide) @ dense.float().to(wide)).t().to(out or dense.dtype).contiguous()
        if self.fault == "transposed":
            return result.t().contiguous().reshape(result.shape)
        if self.fault == "nan":
            return result.float() * float("nan")
        return result


def machine(clock: FakeClock | None = None, capability: tuple[int, int] = (9, 0)) -> Device:
    readings = {"sm_mhz": 1755.0, "power_w": 300.0, "temperature_c": 50.0}
    return Device("cpu", capability, clock or FakeClock(), lambda: readings)
