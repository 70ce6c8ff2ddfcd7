"""Whole models on GPUs, in Python's words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunesim.results import Result
from studies.entries import overrides
from studies.progress import ProgressLine
from workloads.arguments import typed
from workloads.bundle import MaskBundle

One = int | Sequence[int]


@typed
def inference(
    model: MaskBundle | str | Path,
    *,
    on: str | Path | Sequence[str | Path],
    batch: One = 1,
    prompt: One = 2048,
    generate: One = 256,
    dtype: str | Sequence[str] = "fp16",
    treat: str | Sequence[str] = (),
    kv_bits: int = 16,
    tensor_parallel: One = 1,
    host: str | float = "graph",
    routing: str = "uniform",
    reserve_gib: float = 3.5,
    set: Mapping[str, Any] | None = None,
    operations: bool = False,
) -> Result:
    """Prefill, decode, memory and what bounds them of a whole model or bundle, one row for each combination of the
    values given; with `operations` one for each operation. The settings are those of `prunesim inference`."""
    from studies import inference as glue
    from studies.treatments import parse_treatments

    place = str(model.folder) if isinstance(model, MaskBundle) else str(model)
    wanted = glue.configurations(
        [str(each) for each in _several(on)], _several(batch), _several(prompt), _several(generate), _several(dtype),
        _several(tensor_parallel), kv_bits, str(host), routing, reserve_gib, overrides(dict(set or {})),
    )  # fmt: skip
    each = glue.treated_as(glue.open_model(place), parse_treatments(_several(treat)), wanted)
    progress = ProgressLine(terminal_only=True)
    frame = glue.frame_of(each, operations, progress)
    progress.close()
    return Result(frame, glue.shown_in_table(frame))


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
