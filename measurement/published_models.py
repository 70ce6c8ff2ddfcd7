"""Whole models as others timed them: decode steps, first tokens and tokens a second that publications give. They ship
with the package; benchmarks/published_whole_models.py makes the file, NOTICE has the licences. Needs no torch.

Nothing is interpolated: a configuration has figures where exactly its model's shapes, card, type, chips, sequences,
prompt and new tokens were published, each by whom; elsewhere a row that is not feasible says what is nearest."""

import math
from functools import cache
from typing import Any

import pandas as pd

from measurement.published import WHOLE_MODELS, Source, file_of, read_table

FILE = file_of(WHOLE_MODELS)
SAME = ("model", "target", "dtype", "tensor_parallel", "batch", "prompt", "generate")
SIZES = ("tensor_parallel", "batch", "prompt", "generate")
FIGURES = ("prefill_ms", "decode_ms_per_token", "tokens_per_s", "speedup")
COLUMNS = (*SAME, "method", "host", "settings", *FIGURES, "published")
SOURCES = {
    source.name: source
    for source in (
        Source("gpt-fast", "meta-pytorch/gpt-fast@6ecad9b5", "BSD-3-Clause",
               "A100-80GB limited to 330 W, torch.compile and CUDA graphs, prompt of 5 tokens"),
        Source("aiconfigurator", "ai-dynamo/aiconfigurator@095f58a5", "Apache-2.0",
               "served by TensorRT-LLM, vLLM or SGLang at as many concurrent requests as sequences are given; times to "
               "the first token hold queueing"),
        Source("Splitwise", "Mutinifni/splitwise-sim@8f99e7dc", "MIT",
               "vLLM of 2023, eager, its Python scheduler included; means of several runs"),
        Source("TensorRT-LLM", "NVIDIA/TensorRT-LLM docs v0.5 and v0.6.1", "Apache-2.0", "static batching"),
        Source("MACKO", "MACKO (arXiv 2511.13061), vlejd/macko_spmv@afa7033", "MIT",
               "100 tokens at one sequence, masks of Wanda"),
    )
}  # fmt: skip


@cache
def published_models() -> pd.DataFrame:
    """COLUMNS; what a publication does not say is missing."""
    return read_table(FILE, SIZES, FIGURES, COLUMNS)


def published_rows() -> list[dict[str, Any]]:
    """All of them, as rows of workloads/columns/inference.py."""
    return [_row(line) for line in published_models().to_dict("records")]


def rows_beside(predicted: pd.DataFrame, nearest: bool) -> list[dict[str, Any]]:
    """Of rows with workloads/columns/inference.py's columns: the published figures of the same configurations, in their
    order, and, where `nearest`, of those that have none but whose model and card were published, what is."""
    there, made, seen = published_models(), [], set()
    for wanted in predicted.to_dict("records"):
        key = tuple(wanted[name] for name in SAME)
        if key in seen or wanted["source"] in ("measured", "published"):
            continue
        seen.add(key)
        own = there[(there["model"] == wanted["model"]) & (there["target"] == wanted["target"])]
        own = own[[_is(line, wanted) for line in own.to_dict("records")]] if len(own) else own
        made += [_row(line) for line in own.to_dict("records")]
        if nearest and own.empty and (said := _nearest(there, wanted)):
            made.append({**{name: wanted[name] for name in SAME}, "source": "published", "feasible": False,
                         "reason": said})  # fmt: skip
    return made


def _is(line: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(not pd.isna(line[name]) and line[name] == wanted[name] for name in SAME)


def _row(line: dict[str, Any]) -> dict[str, Any]:
    source = SOURCES[line["published"]]
    figures = {name: value for name, value in line.items() if name != "published" and not pd.isna(value)}
    settings = f"{line['settings']} published={source.name}".strip()
    return {**figures, "settings": settings, "source": "published", "feasible": True, "fits": True,
            "reason": source.said}  # fmt: skip


def _nearest(there: pd.DataFrame, wanted: dict[str, Any]) -> str:
    """Of the model on the card, the configuration whose sizes differ least: the sum of their octaves."""
    own = there[(there["model"] == wanted["model"]) & (there["target"] == wanted["target"])].to_dict("records")
    if not own:
        return ""

    def octaves(line: dict[str, Any]) -> float:
        sizes = ((line[name], wanted[name]) for name in SIZES)
        apart = sum(1.0 if pd.isna(a) else abs(math.log2(a / b)) for a, b in sizes)
        return apart + (0 if line["dtype"] == wanted["dtype"] else 1)

    return f"not published; nearest: {described(min(own, key=octaves))}"


def described(line: dict[str, Any]) -> str:
    """ "fp16, 2 chips, 1 sequences, prompt 512, 128 new: 60 ms, 40 ms a token (Splitwise)"."""
    sizes = [line["dtype"] or "type not given", f"{line['tensor_parallel']} chips", f"{line['batch']} sequences"]
    sizes += [] if pd.isna(line["prompt"]) else [f"prompt {line['prompt']:,}"]
    sizes += [] if pd.isna(line["generate"]) else [f"{line['generate']:,} new"]
    units = {"prefill_ms": "ms to the first token", "decode_ms_per_token": "ms a token", "tokens_per_s": "tokens/s"}
    said = [f"{line[name]:.4g} {unit}" for name, unit in units.items() if not pd.isna(line[name])]
    method = f"{line['method']}, " if line["method"] else ""
    return f"{method}{', '.join(sizes)}: {', '.join(said)} ({line['published']})"
