"""What whole models are asked for: every combination of targets, types, GPUs and sizes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.gpu.operators.stack import Stack
from simulator.inference.runner import Numbers, Runner
from simulator.runners import find_runner
from studies.designs import Named
from studies.once import check_once
from workloads.decoder.memory import GIB, Budget
from workloads.errors import UserError
from workloads.phases import Generation, Phase, generate
from workloads.routing import UNIFORM, Routing

MOST = 999_999_999  # of batch, prompt, generate and GPUs


@dataclass(frozen=True)
class Configuration:
    runner: Runner
    numbers: Numbers
    ranks: int
    host: str
    stack: Stack
    work: Generation | Phase
    reserve_bytes: float

    @property
    def budget(self) -> Budget | None:
        """None where the runner's memory is not stated."""
        capacity = self.runner.capacity_gib
        return None if capacity is None else Budget(capacity * GIB, self.reserve_bytes)

    @property
    def tokens(self) -> tuple[int, ...]:
        """That pass together in its phases."""
        work = self.work
        return (work.prefill.tokens, work.batch) if isinstance(work, Generation) else (work.tokens,)

    @property
    def prompt(self) -> int:
        """Tokens of a sequence before the ones that are made; those that are cached, of a decode step alone."""
        return self.work.prompt if isinstance(self.work, Generation) else self.work.past


def configurations(
    on: Sequence[Named], batch: Sequence[int], prompt: Sequence[int], new: Sequence[int], dtypes: Sequence[str] = (),
    ranks: Sequence[int] = (1,), kv_bits: int | None = None, host: str = "", routing: Routing = UNIFORM,
    reserve_gib: float | None = None, sets: Sequence[str] = (),
) -> list[Configuration]:  # fmt: skip
    """Every combination, in this order; what is left out, each runner has its own of. Raises UserError for what is
    none."""
    if not on:
        raise UserError("`on` is empty; give at least one")
    sizes_given = (("batch", batch), ("prompt", prompt), ("generate", new), ("tensor_parallel", ranks))
    for name, sizes in sizes_given:
        if not sizes or not 1 <= min(sizes) <= max(sizes) <= MOST:
            raise UserError(f"`{name}` {', '.join(map(str, sizes)) or 'is empty'}: whole numbers from 1 to {MOST:,}")
    for name, values in (("dtype", dtypes), *sizes_given):
        check_once(name, values)
    if reserve_gib is not None and not 0 <= reserve_gib < math.inf:
        raise UserError(f"`reserve_gib` {reserve_gib}: the GiB of a memory that are kept free, at least 0")
    made = []
    runners = [find_runner(name, sets) for name in on]
    check_once("on", [runner.name for runner in runners])
    for runner in runners:
        said, stack = runner.host(host)
        numbers = [runner.numbers(name, kv_bits, routing.assumed) for name in dtypes or [""]]
        reserve = (runner.reserve_gib if reserve_gib is None else reserve_gib) * GIB
        made += [
            Configuration(runner, one, n, said, stack, generate(*size), reserve)
            for one, n, size in itertools.product(numbers, ranks, itertools.product(batch, prompt, new))
        ]
    return made
