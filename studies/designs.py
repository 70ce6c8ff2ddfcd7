"""The targets a user asks for: names or objects, each with settings, once for every combination of what is swept."""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from simulator.accelerators import Accelerator
from simulator.gpu.named import is_gpu
from simulator.targets import find_target
from studies.ranges import spread
from workloads.errors import UserError
from workloads.limits import shortened
from workloads.targets import Target

MAX_DESIGNS = 100_000  # of a sweep: some minutes
Named = str | Accelerator  # a name (ours, a package's, file.py:Name, a machine file), or a design made in Python
On = Named | Path


def open_targets(
    on: On | Sequence[On], sets: Sequence[str] = (), choices: Sequence[Sequence[str]] = (), dtype: str = ""
) -> list[Target]:
    """Every target with `sets`, once for every combination of one "key=value" of each of `choices`. `dtype` goes to
    those of them that are GPUs. Raises UserError."""
    given = [on] if isinstance(on, str | Path | Accelerator) else on
    several = [str(each) if isinstance(each, Path) else each for each in given]
    if not several:
        raise UserError("say what to run `on`, such as vitcod")
    takes = [isinstance(each, str) and is_gpu(each) for each in several]
    targets: list[Target] = []
    for each, gpu in zip(several, takes, strict=True):
        targets += combined(each, sets, choices, dtype if gpu or not any(takes) else "")
    _check_told_apart(targets)
    return targets


def _check_told_apart(targets: Sequence[Target]) -> None:
    """Raises UserError for two of one name with the same settings."""
    seen: set[tuple[str, str]] = set()
    for target in targets:
        called = (target.name, target.settings)
        if called in seen:
            named = f"{target.name} ({target.settings})" if target.settings else target.name
            raise UserError(
                f"two of the targets are {named}, and their rows could not be told apart; name one otherwise"
            )
        seen.add(called)


def combined(
    on: Named, sets: Sequence[str], choices: Sequence[Sequence[str]], dtype: str = "", span: slice = slice(None)
) -> list[Target]:
    """A target for every combination of one "key=value" of each of `choices`; `span`: of these of them alone. Raises
    UserError for a key swept twice or without values."""
    seen: set[str] = set()
    name = on if isinstance(on, str) else on.name
    for choice in choices:
        if not choice:
            raise UserError(f"{name}: a sweep without values; give at least one")
        key = choice[0].partition("=")[0]
        if key in seen:
            raise UserError(f"{name}: {key} is swept twice; give all of its values in one sweep")
        if len(set(choice)) < len(choice):
            raise UserError(f"{name}: the sweep of {key} names a value twice")
        seen.add(key)
    count = math.prod(len(choice) for choice in choices)
    if count > MAX_DESIGNS:
        raise UserError(
            f"{name}: the sweep asks for {shortened(count)} designs; at most {MAX_DESIGNS:,} at a time, so sweep fewer "
            "values"
        )
    wanted = itertools.islice(itertools.product(*choices), span.start, span.stop)
    return [find_target(on, [*sets, *chosen], dtype) for chosen in wanted]


def parse_sweep(text: str) -> list[str]:
    """ "array.rows=16,32" -> ["array.rows=16", "array.rows=32"], and so "array.rows=16:32:16"; commas within brackets
    or quotes do not part values. Raises UserError."""
    key, separator, values = text.partition("=")
    parts = [part.strip() for part in re.findall(r'(?:\[[^\]]*\]|"[^"]*"|[^,\["])+', values)]
    if not separator or not key.strip() or not parts or not all(parts):
        raise UserError(
            f"`sweep` {text!r}: expected key=value,value,... such as dram.bandwidth_gbps=25.6,51.2, or a range such as "
            "array.height=16:128:16 or 16:256:x2"
        )
    try:
        return [f"{key.strip()}={value}" for part in parts for value in spread(part)]
    except UserError as error:
        raise UserError(f"`sweep` {key.strip()}: {error}") from None
