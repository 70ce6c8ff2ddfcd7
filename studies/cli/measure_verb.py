"""prunesim measure"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole, check_format, emit
from studies.progress import ProgressLine
from workloads.errors import UserError, unknown

TOKENS = "1,16,64,256,1024,2048,8192"
KERNELS = "dense,cusparselt24,cutlass24,int8,int8-24,fp8,fp8-24,int4"


def measure(
    bundle: Path | None = None,
    /,
    *,
    model: str | None = None,
    shapes: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    kernels: str = KERNELS,
    dtype: str = "fp16",
    tokens: str = TOKENS,
    pattern: str = "2:4",
    runs: Whole = 50,
    compile: Annotated[bool, Parameter(negative="")] = False,
    l2: str = "cold",
    end_to_end: str = "",
    batch: Whole = 1,
    seq: Whole = 2048,
    seed: Whole = 0,
    replay: Path | None = None,
    out: Path | None = None,
    format: str = "table",
) -> None:
    """Time every linear of BUNDLE (or of --model, or --shapes) on this machine's GPU, once per distinct shape; needs
    CUDA.

    Every result is checked against a reference before it is timed. A kernel that cannot take a shape, or gets it wrong,
    is a row with the reason. The record keeps every sample; an interrupted command goes on where it was when repeated.

    Parameters
    ----------
    model
        A catalog name, config.json or model folder; its linears with --pattern on them.
    shapes
        GEMMs m,n,k = tokens,out_features,in_features; these bring their own tokens.
    kernels
        Any of dense, cusparselt24, cutlass24, int8, int8-24, fp8, fp8-24, int4, separated by commas; dense is always
        measured.
    dtype
        fp16 or bf16: of the dense layer, of 2:4 without quantization, and of what quantized kernels write where they
        can.
    tokens
        Tokens that pass through each layer together, separated by commas: 1 for decoding one sequence.
    pattern
        With --model and --shapes: 2:4, 1:4, 1:2, or unstructured (for which PyTorch has no faster kernel: rows say so).
    runs
        Timed runs a case, 50 or more.
    compile
        Pass every kernel through torch.compile.
    l2
        Which times become result rows: cold (weights come from DRAM) or warm (back to back). The record holds both.
    end_to_end
        block or model: instead of single layers, one decoder block or the whole --model, dense and 2:4, prefill and
        decode.
    batch
        Sequences of --end-to-end.
    seq
        Tokens a sequence of --end-to-end: all at once in prefill, in the cache in decode.
    seed
        Draws the operands.
    replay
        Read this record instead of measuring; needs no GPU.
    out
        Folder of record.csv, rows.csv (for prunesim report) and end-to-end.json.
    format
        json, csv or table: what is printed.
    """
    check_format(format)
    from measurement.rows import MEASURED_COLUMNS, SITUATIONS
    from studies import measure as glue

    if l2 not in SITUATIONS:
        raise unknown("`l2`", l2, SITUATIONS)
    if replay is not None:
        if bundle is not None or model is not None or shapes or out is not None or end_to_end:
            raise UserError("--replay FILE reads a record and takes only --l2 and --format beside it")
        emit(glue.replay(replay, l2), format, None, MEASURED_COLUMNS)
        return
    if out is None:
        raise UserError("measure: give --out DIR, the folder of the record; or --replay FILE")
    if end_to_end:
        if model is None:
            raise UserError("--end-to-end needs --model CONFIG")
        _end_to_end(model, end_to_end, dtype, batch, seq, runs, out)
        return
    _layers(bundle, model, shapes or [], kernels, dtype, tokens, pattern, runs, compile, l2, seed, out, format)


def _layers(
    bundle: Path | None, model: str | None, shapes: list[str], kernels: str, dtype: str, tokens: str, pattern: str,
    runs: int,
    compile: bool, l2: str, seed: int, out: Path, format: str,
) -> None:  # fmt: skip
    from measurement.environment import check_gpu
    from measurement.measure import Procedure
    from measurement.rows import MEASURED_COLUMNS
    from studies import measure as glue

    procedure = Procedure(dtype, runs, compile, seed)
    chosen = glue.open_kernels(kernels)
    check_gpu()
    job = glue.open_job(bundle, model, shapes, pattern, tokens)
    frame = glue.measured(job, chosen, procedure, l2, out, ProgressLine())
    sys.stderr.write(f"wrote {out / glue.ROWS}\n")
    emit(frame, format, None, MEASURED_COLUMNS)


def _end_to_end(model: str, what: str, dtype: str, batch: int, seq: int, runs: int, out: Path) -> None:
    if what not in ("block", "model"):
        raise unknown("--end-to-end", what, ("block", "model"))
    import itertools

    from checkpoints.catalog import resolve_config
    from measurement import blocks
    from measurement.environment import check_gpu, describe
    from measurement.measure import Procedure, cuda_device
    from studies.measure import write_end_to_end
    from workloads.locking import writing

    Procedure(dtype, runs)
    cases = [blocks.Scenario(dtype, phase, batch, seq, 1 if what == "block" else 0) for phase in blocks.PHASES]
    check_gpu()
    name, config = resolve_config(model)
    device = cuda_device()
    backends = {backend: blocks.converter(backend) for backend in blocks.BACKENDS}
    rows = itertools.chain.from_iterable(blocks.end_to_end(device, config, case, backends, runs) for case in cases)
    with writing(out):
        write_end_to_end(out / f"end-to-end-{what}-{dtype}.json", describe(device.clock), name, rows)
    sys.stderr.write(f"wrote {out / f'end-to-end-{what}-{dtype}.json'}\n")
