"""prunesim measure"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from measurement.shapes import SPREAD
from studies.cli.output import Whole, check_format, emit
from studies.progress import ProgressLine
from workloads.errors import UserError, unknown


def measure(
    bundle: Path | None = None,
    /,
    *,
    model: str | None = None,
    shapes: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    on: str = "cuda",
    kernels: str = "",
    dtype: str = "",
    tokens: str = "",
    pattern: str = "",
    density: str = "",
    runs: Whole = 0,
    threads: Whole = 1,
    spread: float = SPREAD,
    compile: Annotated[bool, Parameter(negative="")] = False,
    l2: str = "cold",
    end_to_end: str = "",
    batch: Whole = 1,
    seq: Whole = 0,
    seed: Whole = 0,
    replay: str | None = None,
    out: Path | None = None,
    format: str = "table",
) -> None:
    """Time every linear of BUNDLE (or of --model, or --shapes) on this machine's GPU (CUDA) or CPU, once per distinct
    shape.

    Every result is checked against a reference before it is timed. A kernel that cannot take a shape, or gets it wrong,
    is a row with the reason. The record keeps every sample; an interrupted command goes on where it was when repeated.

    Parameters
    ----------
    bundle
        A folder of masks that prune, generate, import or finetune wrote; its layers are
        measured.
    model
        A catalog name, config.json or model folder; its linears with --pattern on them.
    shapes
        GEMMs m,n,k = tokens,out_features,in_features; these bring their own tokens.
    on
        cuda, or cpu.
    kernels
        Separated by commas; dense is always measured. On a GPU any of dense, cusparselt24, cutlass24, int8, int8-24,
        fp8, fp8-24, int4; on a CPU of dense, bf16, int8-x86, int8-onednn, int8-weights, int4-weights, csr, bsr,
        smaller, sparse24. All of these unless given; on a CPU openvino, openvino-bf16, openvino-int8 and
        openvino-sparse (the extra `openvino`) where they are named.
    dtype
        Of the dense layer, of masked ones without quantization, and of what quantized kernels write where they can:
        fp16 (as usual) or bf16 on a GPU, fp32 (as usual) or bf16 on a CPU.
    tokens
        Tokens that pass through each layer together, separated by commas: 1 for decoding one sequence. Usually
        1,16,64,256,1024,2048,8192 on a GPU and 1,16,128 on a CPU. Of the bundle of a network samples, of which each
        layer makes tokens of its own.
    pattern
        With --model and --shapes on a GPU: 2:4 (as usual), 1:4, 1:2, or unstructured (for which PyTorch has no faster
        kernel: rows say so).
    density
        With --model and --shapes on a CPU: the shares of weights kept that csr, bsr and smaller run, separated by
        commas; 0.5,0.1 unless given.
    runs
        Timed runs a case, 50 or more on a GPU; rounds on a CPU, 5 or more, usually 20.
    threads
        Of a CPU, each on a core of its own.
    spread
        Of a CPU: a case whose median is more than so many times its least time is refused as noisy, with the reason; a
        larger number accepts it.
    compile
        Pass every kernel through torch.compile.
    l2
        Which times become result rows: cold (weights come from DRAM) or warm (back to back; they may come from a
        cache). The record holds both.
    end_to_end
        block or model: instead of single layers, one decoder block or the whole --model, prefill and decode: on a GPU
        dense and 2:4; on a CPU --kernels dense, bf16, int8-x86, int8-onednn, 24-as-dense and smaller, which keeps
        --density of kv groups and FFN neurons.
    batch
        Sequences of --end-to-end.
    seq
        Tokens a sequence of --end-to-end: all at once in prefill, in the cache in decode; 2048 on a GPU and 128 on a
        CPU unless given.
    seed
        Draws the operands.
    replay
        Read this record instead of measuring: a file, or one that ships (prunesim ls records). With BUNDLE, --model or
        --shapes what it has of these layers, and of those that were not measured the nearest, marked as such. operators
        and whole-models, which ship too, are printed whole, operators with what is predicted.
    out
        Folder of record.csv, rows.csv (for prunesim report) and end-to-end-*.json (for --replay and prunesim
        inference).
    format
        json, csv or table: what is printed.
    """
    check_format(format)
    from measurement.rows import MEASURED_COLUMNS, SITUATIONS
    from studies import measure as glue
    from studies.end_to_end import TABLE, whole_rows
    from studies.inference import INFERENCE_TABLE
    from studies.measuring import Wanted
    from studies.whole_measured import WholeWanted

    if l2 not in SITUATIONS:
        raise unknown("`l2`", l2, SITUATIONS)
    if replay is not None:
        others = out, end_to_end, kernels, on, density, runs, threads, spread, compile, batch, seq, seed
        if others != (None, "", "", "cuda", "", 0, 1, SPREAD, False, 1, 0, 0):
            raise UserError(
                "--replay RECORD measures nothing: it takes BUNDLE, --model or --shapes, --tokens, --pattern, --dtype, "
                "--l2 and --format beside it"
            )
        if not replay:
            raise UserError("--replay is empty; give a record's file or name (prunesim ls records)")
        chosen = bundle, model, shapes, tokens, pattern, dtype, l2 != "cold"
        if Path(replay).suffix == ".json":
            check_whole(replay, chosen)
            emit(whole_rows(Path(replay)), format, None, INFERENCE_TABLE)
            return
        from studies.published_tables import TABLES

        if table := TABLES.get(replay):
            check_whole(replay, chosen)
            emit(table.rows(), format, None, table.columns)
            return
        wanted = Wanted(bundle, model, shapes or (), dtype=dtype, tokens=tokens, pattern=pattern)
        emit(wanted.replayed(replay, l2), format, None, MEASURED_COLUMNS)
        return
    if out is None:
        raise UserError("measure: give --out DIR, the folder of the record; or --replay RECORD")
    if end_to_end:
        if model is None:
            raise UserError("--end-to-end needs --model CONFIG")
        whole = WholeWanted(end_to_end, model, on, dtype, batch, seq, runs, threads, spread, density, kernels)
        path, frame = whole.measured(out, ProgressLine())
        sys.stderr.write(f"wrote {path}\n")
        emit(frame.assign(model=model), format, None, TABLE)
        return
    wanted = Wanted(
        bundle, model, shapes or (), on, kernels, dtype, tokens, pattern, runs, seed, compile, density, threads, spread
    )
    frame = wanted.measured(l2, out, ProgressLine())
    sys.stderr.write(f"wrote {out / glue.ROWS}\n")
    emit(frame, format, None, MEASURED_COLUMNS)


def check_whole(replay: str, chosen: tuple[object, ...]) -> None:
    """Raises UserError where a part is chosen of what is printed whole."""
    if any(chosen):
        raise UserError(f"`replay` of {replay} prints all of it; no bundle, model or other choice goes with it")
