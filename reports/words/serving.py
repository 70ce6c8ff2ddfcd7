"""What a report says of whole models: times, sizes and where they hold, in words."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.words.present import quantity_text, times_text
from reports.words.settings import settings_text

HOW_SERVING = (
    "A prompt is read (prefill), then tokens are made one by one (decode), with every operation of the model: linears, "
    "attention over the context, norms, head. Speedup is the time of the unpruned model in fp16 (on a GPU) / time, for "
    "the same sequences on the same target. Nothing is scheduled: all sequences of a batch begin and end together. "
    "Fits: weights, KV cache, activations and a reserve are no more than the memory. Linears free: what would be left "
    "to gain over dense if the blocks' matrices took no time at all, the limit of all that masks and bits can do."
)
HOW_COUNTED = (
    "Every operation of every step is counted from the model's config, and its time added up with what stands between "
    "kernels; docs/inference.md says what is counted and how far whole models were off. Treatments without masks know "
    "how much is taken out, not what, and nothing of what the model is worth then."
)
HOW_SHARES = (
    "Where the time of a whole generation goes, each bar as long as its time over that of the dense model. What is not "
    "a linear stays when linears get faster, and its share grows: Amdahl's law."
)
HOW_BATCHES = (
    "Generated tokens of all sequences a second, over the number of sequences. Hollow marks do not fit into the "
    "memory. Batches at which one method overtakes another are interpolated between those that were run."
)
HOW_CONTEXTS = (
    "New tokens of all sequences a second in one decode step, over the tokens that each sequence sees; at the fewest "
    "and the most sequences that were run. Hollow marks do not fit into the memory."
)
HOW_ROOFLINE = (
    "Every kind of operation of the dense model at its FLOP a byte, as many FLOP/s as it reaches. Bytes count every "
    "operand once. What lies left of the ridge waits for memory, and masks that only save arithmetic cannot help it; "
    "what lies right of it computes. Linears alone, which masks and bits of weights change, have figures of their own."
)
HOW_OPERATORS = (
    "Of the operators that the dense models run here, those that publications timed on the same card at the same "
    "sizes, in 16 bits, each with the prediction of the same kernel. The card's description was fitted to published "
    "times, these among them, so that it is no test of it."
)
HOW_GAINS = (
    "Speedup over the dense model for the same sequences. Masks and bits of weights help linears alone: longer "
    "contexts and larger batches give attention, which they do not touch, a larger share."
)


def target_name(key: Mapping[str, Any]) -> str:
    """ "h100-sxm", "2 x h100-sxm with power.limit_w=300, 8-bit KV cache"."""
    several = f"{key['tensor_parallel']} x " if key["tensor_parallel"] > 1 else ""
    settings = f" with {settings_text(key['settings'])}" if key["settings"] else ""
    bits = key["kv_bits"]  # of an accelerator those of its activations; publications may not say
    own = pd.isna(bits) or bits == 16 or key["source"] == "simulated"
    cache = "" if own else f", {bits}-bit KV cache"
    source = f", {key['source']}" if key["source"] not in ("predicted", "simulated") else ""
    return f"{several}{key['target']}{settings}{cache}{source}"


def sizes_text(key: Mapping[str, Any]) -> str:
    """ "prompts of 4,096 tokens, 256 new ones"."""
    if key["step"]:
        return f"one step behind {key['prompt']:,} tokens"
    new = "the first token alone" if key["generate"] == 1 else f"{key['generate']:,} new ones"
    return f"prompts of {key['prompt']:,} tokens, {new}"


def sequences(batch: int) -> str:
    return "1 sequence" if batch == 1 else f"{batch:,} sequences"


def ms_text(ms: float) -> str:
    """ "7.22 ms", "3.19 s"."""
    return f"{quantity_text(ms / 1e3)} s" if ms >= 1e3 else f"{quantity_text(ms)} ms"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def gain_text(speedup: float, verdict: str, error: float) -> str:
    """ "1.28x, not distinguishable from dense within ±17 %"; "1.60x ± 15 %"."""
    if not error > 0:  # of cycles, and of what runs as dense
        return times_text(speedup)
    if verdict.startswith("not"):
        return f"{times_text(speedup)}, {verdict} from dense within ±{percent(error)}"
    return f"{times_text(speedup)} ± {percent(error)}"
