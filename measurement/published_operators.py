"""Operators of decoder layers as others timed them: attention, linears, norms and activations, experts, all-reduces.
They ship with the package; benchmarks/published_operators.py makes the file, NOTICE has the licences. Needs no torch.

A row has the columns that `prunesim predict` reads of its operation, the card, the kernel and the time."""

from functools import cache

import pandas as pd

from measurement.published import OPERATORS, Source, file_of, read_table

FILE = file_of(OPERATORS)
SIZES = (
    *("batch", "q_tokens", "kv_tokens", "heads", "kv_heads", "head_dim", "window", "m", "n", "k", "rows", "cols"),
    *("tokens", "hidden", "expert_ffn", "experts", "top_k", "distinct_experts", "gpus", "message_bytes"),
)
COLUMNS = ("operation", "phase", *SIZES, "routing", "dtype", "target", "kernel", "of", "latency_us", "published")
SOURCES = {
    source.name: source
    for source in (
        Source("aiconfigurator", "ai-dynamo/aiconfigurator@095f58a5", "Apache-2.0",
               "kernels of vLLM, SGLang and TensorRT-LLM one at a time; all-reduces by nccl-tests and vLLM's own"),
        Source("Vidur", "microsoft/vidur@7d475133, its attention of history blob ee3dec76", "MIT",
               "operators of whole layers of 2023, H100's rounded to 1 us"),
        Source("LLMServingSim", "casys-kaist/LLMServingSim@5daddb21", "MIT", "vLLM 0.19, one kernel at a time"),
        Source("LLMCompass", "PrincetonUniversity/LLMCompass@2e015fd2", "BSD-3-Clause",
               "by the host's clock, a launch of about 45 us in each layernorm and gelu"),
    )
}  # fmt: skip


@cache
def published_operators() -> pd.DataFrame:
    """COLUMNS; sizes that an operation does not have are missing. `of`: the matrix of a linear, as "qkv"."""
    return read_table(FILE, SIZES, ["latency_us"], COLUMNS)
