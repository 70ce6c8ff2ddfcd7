"""prunesim inference"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole, check_format, emit
from workloads.errors import UserError


def inference(
    model: str,
    /,
    *,
    on: Annotated[list[str], Parameter(negative="")],
    batch: str = "1",
    prompt: str = "2048",
    generate: str = "256",
    dtype: str = "fp16",
    treat: str = "",
    kv_bits: Whole = 16,
    tensor_parallel: str = "1",
    host: str = "graph",
    routing: str = "uniform",
    reserve_gib: float = 3.5,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    operations: Annotated[bool, Parameter(negative="")] = False,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Prefill, decode, memory and what bounds them of a whole MODEL or BUNDLE on a GPU, from its config alone.

    Every operation of every step is counted and its kernel's time predicted (docs/inference.md says what is counted and
    what is not). One row for each combination of the values given.

    Parameters
    ----------
    model
        A catalog name, config.json, model folder or GGUF file; or a mask bundle, whose masks, bits and removed rows,
        columns and blocks count.
    on
        A GPU (prunesim ls gpus), or a machine file based on one. Given more than once: rows of all.
    batch
        Sequences that run together; several with commas, 1,32.
    prompt
        Tokens of each prompt; several with commas.
    generate
        Tokens made for each prompt, the first by the prefill; several with commas.
    dtype
        fp16, bf16, int8, fp8 (types of weights and products), int8-weight, int4 (of weights alone); several with
        commas. A bundle's own bits go first.
    treat
        What is done to a MODEL without masks of its own, rows of each, several with commas: dense,2:4,int4+2:4. A type
        of --dtype; N:M, or unstructured-50 (50 % zeros); structured-25 (25 % of kv groups and of FFN neurons taken
        out), kv-25, ffn-25; joined by +.
    kv_bits
        Bits of keys and values in the cache: 16 or 8.
    tensor_parallel
        GPUs that share every layer; several with commas.
    host
        graph (one CUDA graph a step), eager (kernels are launched one by one), static-batch, eager-2023, or the
        milliseconds that it adds to a step and nothing else.
    routing
        How experts share the tokens: uniform or balanced.
    reserve_gib
        Memory of a GPU that is taken by what is not counted.
    set_
        key=value of the GPU, e.g. memory.bandwidth_gbps=3000.
    operations
        A row for each operation instead of one for each configuration; their times add up to the configuration's.
    format
        json, csv or table (the table leaves columns out).
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from studies import inference as glue
    from studies.progress import ProgressLine
    from studies.treatments import parse_treatments

    sizes = (numbers("batch", batch), numbers("prompt", prompt), numbers("generate", generate))
    ranks = numbers("tensor_parallel", tensor_parallel)
    treatments = parse_treatments(words("treat", treat) if treat else [])

    def wanted(dtypes: Sequence[str]) -> list[glue.Configuration]:
        return glue.configurations(on, *sizes, dtypes, ranks, kv_bits, host, routing, reserve_gib, set_ or [])

    each = glue.treated_as(glue.open_model(model), treatments, words("dtype", dtype), wanted)
    progress = ProgressLine()
    frame = glue.frame_of(each, operations, progress)
    progress.close()
    emit(frame, format, out, glue.shown_in_table(frame))


def numbers(name: str, text: str) -> list[int]:
    """ "1,32" -> [1, 32]. Raises UserError for anything but whole numbers from 1."""
    parts = words(name, text)
    for part in parts:
        if not part.isascii() or not part.isdecimal() or not int(part[:12]) >= 1 or len(part) > 9:
            raise UserError(
                f"`{name}` {text!r}: {part!r} is no whole number from 1 to 999999999; several are written as 1,32"
            )
    return [int(part) for part in parts]


def words(name: str, text: str) -> list[str]:
    """Raises UserError where there is none, and for one given twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserError(f"`{name}` {text!r}: a value is empty; several are written with commas between them")
    if twice := next((part for part in parts if parts.count(part) > 1), ""):
        raise UserError(f"`{name}` {text!r} has {twice} twice; leave one out")
    return parts
