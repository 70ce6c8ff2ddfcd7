"""prunesim inference"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole, check_format, emit
from studies.once import check_once
from workloads.errors import UserError


def inference(
    model: str,
    /,
    *,
    on: Annotated[list[str], Parameter(negative="")],
    batch: str = "1",
    prompt: str = "2048",
    generate: str = "256",
    dtype: str = "",
    treat: str = "",
    kv_bits: Whole | None = None,
    tensor_parallel: str = "1",
    host: str = "",
    routing: str = "uniform",
    reserve_gib: float | None = None,
    attention: Path | None = None,
    attention_on: str = "",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    operations: Annotated[bool, Parameter(negative="")] = False,
    measured: Annotated[list[Path] | None, Parameter(negative="")] = None,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Prefill, decode, memory and what bounds them of a whole MODEL or BUNDLE on a GPU or an
    accelerator, from its config alone.

    Every operation of every step is counted and its time predicted (GPUs) or simulated (accelerators); what is counted
    and what is not is in docs/inference.md. One row for each combination of the values given.

    Parameters
    ----------
    model
        A catalog name, config.json, model folder or GGUF file; or a mask bundle, whose masks, bits and removed rows,
        columns and blocks count.
    on
        A GPU or accelerator (prunesim ls), file.py:Name, a class of your own, which is run, or a machine file. Given
        more than once: rows of all.
    batch
        Sequences that run together; several with commas, 1,32.
    prompt
        Tokens of each prompt; several with commas.
    generate
        Tokens made for each prompt, the first by the prefill; several with commas.
    dtype
        On GPUs: fp16, bf16, int8, fp8 (types of weights and products), int8-weight, int4 (of weights alone); several
        with commas; fp16 unless given. A bundle's own bits go first.
    treat
        What is done to a MODEL without masks of its own, rows of each, several with commas: dense,2:4,int4+2:4. A type
        of --dtype; N:M, or unstructured-50 (50 % zeros); structured-25 (25 % of kv groups and of FFN neurons taken
        out), kv-25, ffn-25; joined by +.
    kv_bits
        Bits of keys and values in the cache. On GPUs 16 or 8, 16 unless given; on accelerators those of activations
        unless given.
    tensor_parallel
        GPUs or chips that share every layer; several with commas.
    host
        On GPUs: graph (one CUDA graph a step), compiled (that, and norms, additions, rotary embedding and activations
        fused into their neighbours), eager (kernels are launched one by one), static-batch, eager-2023; graph unless
        given. Or the milliseconds that it adds to a step and nothing else; on accelerators 0 unless given.
    routing
        How experts share the tokens: uniform, balanced, or the tokens that each was seen to get: a .json or .csv file,
        or numbers with commas.
    reserve_gib
        Memory of a GPU or chip that is taken by what is not counted; 3.5 of a GPU, 0 of an accelerator unless given.
    attention
        Masks of the prefill's attention, .npy (layers, heads, T, T) with T the prompt, 1 = kept; or of one layer for
        all. Decode attends to all.
    attention_on
        What runs attention under these masks, such as vitcod-attention, beside one accelerator that runs the rest.
    set_
        key=value of the machine, e.g. memory.bandwidth_gbps=3000, vector.lanes=256.
    operations
        A row for each operation instead of one for each configuration; their times add up to the configuration's.
    measured
        A file of `prunesim measure --end-to-end model`, whose rows stand beside; may be given more than once. Or
        whole-models: what others published of the same configurations, and what is nearest to those of the same model
        and card.
    format
        json, csv or table (the table leaves columns out).
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from studies import inference as glue
    from studies.asked import open_model
    from studies.configurations import Configuration, configurations
    from studies.progress import ProgressLine
    from studies.sparse_attention import SparseAttention
    from studies.treatments import parse_treatments
    from workloads.routing_counts import parse_routing

    shared = parse_routing(routing)
    sizes = (numbers("batch", batch), numbers("prompt", prompt), numbers("generate", generate))
    ranks = numbers("tensor_parallel", tensor_parallel)
    treatments = parse_treatments(words("treat", treat) if treat else [])

    def wanted(dtypes: Sequence[str]) -> list[Configuration]:
        return configurations(on, *sizes, dtypes, ranks, kv_bits, host, shared, reserve_gib, set_ or [])

    asked = open_model(model, SparseAttention.open(attention, attention_on), shared)
    each = glue.treated_as(asked, treatments, words("dtype", dtype) if dtype else [], wanted)
    progress = ProgressLine()
    frame = glue.frame_of(each, operations, progress, measured or [])
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
    check_once(name, parts)
    return parts
