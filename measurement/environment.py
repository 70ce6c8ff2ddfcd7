"""The card a record was made on: what it says of itself, and two yardsticks measured on it.

Datasheet numbers are not what a card gives: power limits, clocks and drivers differ. So each record carries the copy
bandwidth and the dense matrix rate of the same card, by the same clock.
"""

import platform
import subprocess
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from measurement.timing import Clock, CudaClock
from workloads import __version__
from workloads.errors import UserError

COPY_BYTES = 1 << 30
PEAK_SIZE = 8192
SMI_FIELDS = (
    "name", "driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem", "clocks.sm", "clocks.mem", "power.draw",
    "temperature.gpu", "persistence_mode", "mig.mode.current", "ecc.mode.current",
)  # fmt: skip


def check_gpu() -> None:
    """Raises UserError where there is no CUDA GPU to measure on."""
    if not torch.cuda.is_available():
        raise UserError(
            "no CUDA GPU here to measure on; give `on` cpu to measure the CPU, use `prunesim predict` for predicted "
            "latency, or give `replay`, a record"
        )


def gpu_name() -> str:
    return torch.cuda.get_device_name()


def describe(clock: Clock) -> dict[str, Any]:
    """Everything a reader needs to judge a record; measures for a second or so."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": cache_bytes(),
        "smi": smi(SMI_FIELDS) or smi(SMI_FIELDS[:4]),  # older drivers refuse a list with a field they lack
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cusparselt": torch.backends.cusparselt.version() if torch.backends.cusparselt.is_available() else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "prunesim": __version__,
        **yardsticks(clock),
    }


def cache_bytes() -> int:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return int(getattr(properties, "L2_cache_size", 64 << 20))


def yardsticks(
    clock: Clock, device: str = "cuda", copy_bytes: int = COPY_BYTES, size: int = PEAK_SIZE
) -> dict[str, Any]:
    """copy_gbps (bytes read plus written), matrix_tflops of a square dense GEMM per type, and the floor of the
    clock."""
    source = torch.randint(0, 255, (copy_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_us = clock.cold(partial(target.copy_, source), 20).median_us
    rates = {}
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        x, w = (torch.randn((size, size), device=device, dtype=dtype) for _ in range(2))
        rates[name] = 2 * size**3 / clock.cold(partial(F.linear, x, w), 20).median_us / 1e6
    tiny = torch.zeros(1, device=device)
    return {
        "copy_gbps": round(2 * copy_bytes / copy_us / 1e3, 1),
        "matrix_tflops": {name: round(rate, 1) for name, rate in rates.items()},
        "matrix_size": size,
        "floor_us": {
            "nothing": round(clock.cold(lambda: None, 20).median_us, 2),
            "smallest kernel": round(clock.cold(tiny.zero_, 20).median_us, 2),
        },
    }


def smi(fields: tuple[str, ...]) -> dict[str, str]:
    """nvidia-smi's answers for the current device, as it words them; empty where it is not installed or does not
    answer."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    device = f"GPU-{uuid}" if uuid is not None and not str(uuid).startswith("GPU-") else str(uuid or 0)
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", f"--id={device}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in answer.splitlines()[0].split(",")] if answer.strip() else []
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def telemetry() -> dict[str, float]:
    """Clock, power and temperature now; NaN for what nvidia-smi does not tell."""
    answers = smi(("clocks.sm", "power.draw", "temperature.gpu"))
    return {
        "sm_mhz": number(answers.get("clocks.sm", "")),
        "power_w": number(answers.get("power.draw", "")),
        "temperature_c": number(answers.get("temperature.gpu", "")),
    }


def number(text: str) -> float:
    """ "1755 MHz" -> 1755.0; NaN for "[N/A]"."""
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return float("nan")


def cuda_clock() -> CudaClock:
    return CudaClock(cache_bytes())
