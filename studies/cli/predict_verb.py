"""prunesim predict"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole, check_format, emit


def predict(
    gemms: Path | None = None,
    /,
    *,
    on: Annotated[list[str], Parameter(negative="")],
    dtype: str = "fp16",
    shapes: Annotated[list[str] | None, Parameter(negative="")] = None,
    model: str | None = None,
    phase: str = "",
    tokens: Whole | None = None,
    batch: Whole | None = None,
    prompt: Whole | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Dense and 2:4 time of GEMMs on a GPU, or the time of a decoder's operators, what bounds them, and the error to
    expect.

    Nothing is measured: figures come from a tile-level model fitted to published measurements of best library kernels
    run back to back (simulator/gpu/kernel_times.py states what it leaves out), those of operators from formulas fitted
    to measured kernels (simulator/gpu/operators/). error_basis says what a preset's stated error rests on.

    Parameters
    ----------
    gemms
        A CSV file with the columns m (tokens), n (out_features) and k (in_features); its other columns are kept. Or a
        SCALE-Sim topology, of GEMMs or of convolutions (lowered to m = output pixels, n = filters, k = filter height x
        width x channels). Or operators: a CSV file with the column operation (attention, linear, rmsnorm, rope,
        silu_mul, residual_add, softmax, layernorm, gelu, embedding, moe, all_reduce or spmv) and the columns that each
        needs (docs/gpu.md).
    on
        A GPU (prunesim ls gpus), or a machine file, my.toml, that says base = "h100-sxm" and what differs. Given more
        than once: rows of all.
    dtype
        fp16, bf16, int8 or fp8 (no fp8 on A100).
    shapes
        m,n,k instead of a file; may be given several times.
    model
        Instead the linear layers of a model: a catalog name (prunesim ls models), a config.json, a model folder or a
        hub id that is on this machine. A line for each shape: the roles that have it, and how many such GEMMs a step
        runs (of experts those that are hit, each with its share of the tokens).
    phase
        Of --model: prefill (--batch times --prompt tokens) or decode (--batch tokens); both unless given.
    tokens
        Of --model: tokens that pass through each layer together, in place of a phase.
    batch
        Sequences of --phase that run together, 1 unless given.
    prompt
        Tokens of each sequence that a prefill takes, 2048 unless given.
    set_
        key=value of the GPU, e.g. power.limit_w=250, or memory.l2_warm=false for layers that follow each other.
    format
        json, csv or table (the table leaves columns out).
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from studies.gemm_files import read_gemms
    from studies.operator_files import is_operators, read_operators
    from studies.predict import PREDICT_TABLE, parse_shapes, predict_on
    from studies.predict_operators import OPERATOR_TABLE, predict_operators
    from workloads.errors import UserError

    if sum((gemms is not None, bool(shapes), model is not None)) != 1:
        raise UserError("predict: give one of a file of `gemms`, `shapes`, each m,n,k, and `model`")
    if model is not None:
        from studies.model_gemms import MODEL_COLUMNS, model_gemms

        found = predict_on(model_gemms(model, phase, batch, prompt, tokens), on, dtype, set_ or [])
        emit(found, format, out, (*MODEL_COLUMNS, *PREDICT_TABLE))
        return
    for name, given in (("phase", phase or None), ("tokens", tokens), ("batch", batch), ("prompt", prompt)):
        if given is not None:
            raise UserError(f"`{name}` is of the layers of a `model`; the GEMMs given have their own")
    if gemms is not None and is_operators(gemms):
        emit(predict_operators(read_operators(gemms), on, dtype, set_ or []), format, out, OPERATOR_TABLE)
        return
    sizes = read_gemms(gemms) if gemms is not None else parse_shapes(shapes or [])
    emit(predict_on(sizes, on, dtype, set_ or []), format, out, PREDICT_TABLE)
