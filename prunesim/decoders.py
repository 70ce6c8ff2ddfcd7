"""Whole models on GPUs and accelerators, in Python's words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunesim.results import Result
from studies.designs import On
from studies.entries import overrides
from studies.progress import ProgressLine
from workloads.arguments import typed
from workloads.bundle import MaskBundle
from workloads.errors import UserError

One = int | Sequence[int]


@typed
def inference(
    model: MaskBundle | str | Path,
    *,
    on: On | Sequence[On],
    batch: One = 1,
    prompt: One = 2048,
    generate: One = 256,
    dtype: str | Sequence[str] = "",
    treat: str | Sequence[str] = (),
    kv_bits: int | None = None,
    tensor_parallel: One = 1,
    host: str | float = "",
    routing: str | Path | Sequence[float] | Mapping[int, Sequence[float]] = "uniform",
    reserve_gib: float | None = None,
    attention: str | Path | None = None,
    attention_on: str | Path = "",
    set: Mapping[str, Any] | None = None,
    operations: bool = False,
    measured: str | Path | Sequence[str | Path] = (),
) -> Result:
    """Prefill, decode, memory and what bounds them of a whole model or bundle, one row for each combination of the
    values given; with `operations` one for each operation; behind them
    those of files of whole models that `prunesim measure` wrote. The settings are those of `prunesim inference`."""
    from studies import inference as glue
    from studies.asked import open_model
    from studies.configurations import Configuration, configurations
    from studies.sparse_attention import SparseAttention
    from studies.treatments import parse_treatments
    from workloads.routing_counts import given_routing

    beside = SparseAttention.open(None if attention is None else Path(attention), str(attention_on))
    place = str(model.folder) if isinstance(model, MaskBundle) else str(model)
    targets = [str(each) if isinstance(each, Path) else each for each in _several(on)]
    sizes = (_several(batch), _several(prompt), _several(generate))
    sets = overrides(dict(set or {}))

    shared = given_routing(routing)

    def wanted(dtypes: Sequence[str]) -> list[Configuration]:
        ranks = _several(tensor_parallel)
        return configurations(targets, *sizes, dtypes, ranks, kv_bits, str(host), shared, reserve_gib, sets)

    asked = open_model(place, beside, shared)
    each = glue.treated_as(asked, parse_treatments(_several(treat)), _dtypes(dtype), wanted)
    progress = ProgressLine(terminal_only=True)
    frame = glue.frame_of(each, operations, progress, [Path(file) for file in _several(measured)])
    progress.close()
    return Result(frame, glue.shown_in_table(frame))


def _dtypes(value: str | Sequence[str]) -> list[str]:
    """[] where none is asked for. Raises UserError for an empty list."""
    if not isinstance(value, str) and not len(value):
        raise UserError("`dtype` is empty; give at least one, or leave it out")
    return [] if value == "" else _several(value)


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
