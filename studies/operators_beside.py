"""Published times of single operators beside a study's whole models: of the operators that its dense models run, those
that were timed on the same card, in 16 bits, at the same sizes. Nothing is interpolated."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from measurement.published_operators import SIZES, SOURCES, published_operators
from simulator.gpu import GPUS
from simulator.inference.gpus import GpuRunner
from simulator.inference.kernels import KV_BITS, ROW_KERNELS
from simulator.inference.sizes import sizes_of
from studies.configurations import Configuration
from studies.published_tables import with_predictions
from workloads.columns.inference import PUBLISHED_OPERATOR_COLUMNS
from workloads.decoder.accounting import grouped
from workloads.decoder.dimensions import Decoder
from workloads.decoder.split import split
from workloads.phases import Generation, Phase, decode
from workloads.rows import to_frame

CONTEXT = "kv_tokens"
Kernel = tuple[str, str, frozenset[tuple[str, int]]]  # card, kind, sizes but for the context
Run = tuple[str, int, str, str, str]  # model, chips, phase, role, kind


def operators_beside(models: Iterable[tuple[str, Decoder, Sequence[Configuration]]]) -> pd.DataFrame:
    """PUBLISHED_OPERATOR_COLUMNS of (name, dense model, what is asked of it) each: a line for each published time, once
    for a role in a phase, with what the card's preset predicts of the same kernel."""
    there = published_operators()
    known: dict[Kernel, list[int]] = {}
    for place, line in enumerate(there.to_dict("records")):
        sizes = {name: int(line[name]) for name in SIZES if not pd.isna(line[name]) and name != CONTEXT}
        known.setdefault((line["target"], line["operation"], frozenset(sizes.items())), []).append(place)
    lines: dict[tuple[Run, int], None] = {}
    for name, decoder, wanted in models:
        for one in wanted:
            for card, run, sizes, contexts in _runs(name, decoder, one):
                for place in known.get((card, run[-1], frozenset(sizes.items())), []):
                    context = there[CONTEXT].iloc[place]
                    if (pd.isna(context) or int(context) in contexts) and _same_phase(run, there["phase"].iloc[place]):
                        lines.setdefault((run, place))
    if not lines:
        return to_frame([], PUBLISHED_OPERATOR_COLUMNS)
    found = with_predictions(there.iloc[[place for _, place in lines]].reset_index(drop=True))
    runs = [run for run, _ in lines]
    told = pd.DataFrame(runs, columns=["model", "tensor_parallel", "phase", "role", "kind"])
    predicted = found["predicted_us"] if "predicted_us" in found else pd.Series(np.nan, found.index)
    rows = told.drop(columns="kind").assign(
        target=found["target"], operation=found["operation"], sizes=[_said(line) for line in found.to_dict("records")],
        dtype=found["dtype"], kernel=found["kernel"], published_us=found["latency_us"], predicted_us=predicted,
        error=predicted / found["latency_us"] - 1, latency_error_p90=found.get("predicted_error_p90"),
        extrapolated=found.get("extrapolated"), published=[SOURCES[each].said for each in found["published"]],
    )  # fmt: skip
    alone = rows.drop_duplicates(ignore_index=True)  # models of one shape, timed to the same microsecond
    return to_frame(alone.to_dict("records"), PUBLISHED_OPERATOR_COLUMNS)


def _same_phase(run: Run, phase: str) -> bool:
    """Attention alone has kernels of each phase."""
    return phase in ("", run[2])


def _runs(name: str, decoder: Decoder, one: Configuration) -> Iterator[tuple[str, Run, dict[str, int], range]]:
    """(card, run, sizes, contexts at which it is) of every operation on a card as it is shipped, in 16 bits."""
    runner, numbers = one.runner, one.numbers
    if not isinstance(runner, GpuRunner) or runner.settings or runner.masked is not None or runner.name not in GPUS:
        return
    if numbers.name not in ("fp16", "bf16") or numbers.elements.kv_bits != KV_BITS:
        return
    for operation, _ in grouped(split(decoder, one.ranks), runner.fusion):
        if one.stack.fuses and type(operation) in ROW_KERNELS:
            continue
        for phase, contexts in _phases(one.work):
            if (found := sizes_of(operation, phase, numbers.elements)) is not None:
                kind, sizes = found
                sizes.pop(CONTEXT, None)
                yield runner.name, (name, one.ranks, phase.name, operation.role, kind), sizes, contexts


def _phases(work: Phase | Generation) -> Iterator[tuple[Phase, range]]:
    """With the contexts that it has, one step each."""
    if isinstance(work, Phase):
        yield work, range(work.context, work.context + 1)
        return
    yield work.prefill, range(work.prompt, work.prompt + 1)
    if work.contexts:
        yield decode(work.batch, work.contexts[0]), work.contexts


def _said(line: dict) -> str:
    """Its sizes in words: "512 x 22016 x 4096", "1 x 512 of 512, 32 heads, 8 kv heads of 128"."""
    if line["operation"] == "attention":
        window = f", window {line['window']}" if line["window"] else ""
        heads = f"{line['heads']} heads, {line['kv_heads']} kv heads of {line['head_dim']}"
        return f"{line['batch']} x {line['q_tokens']} of {line['kv_tokens']}, {heads}{window}"
    return " x ".join(str(line[name]) for name in SIZES if not pd.isna(line[name]))
