"""Dense, 2:4 and quantized time of a model's linears on one GPU, for each number of tokens."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.tables.gemms import MASKED, is_24
from reports.tables.sums import KERNEL, KEYS, groups, sums
from reports.words.settings import QUANTIZED, others, setting, type_of
from workloads.verdicts import FASTER, verdict


@dataclass(frozen=True)
class Bar:
    """The summed time of all layers by one kernel; latency_us is NaN where a layer cannot run. error: of a predicted
    time, the share that nine of ten stay within; speedup_error: of a 2:4 time against the dense time of the same
    type."""

    tokens: int
    dtype: str
    sparse: bool
    name: str
    latency_us: float
    error: float = 0.0
    speedup_error: float = 0.0

    def against(self, reference: "Bar") -> str:
        """ "slower", "not distinguishable" where the band of the ratio holds 1, or "" where faster."""
        ratio = reference.latency_us / self.latency_us
        error = (1 + self.error) * (1 + reference.error) - 1
        if self.sparse and self.dtype == reference.dtype:
            error = self.speedup_error
        if not error and ratio == 1:
            return ""
        said = verdict(np.array([ratio]), np.array([error]))[0]
        return "" if said == FASTER else said


def phases_of(rows: pd.DataFrame) -> Iterator[tuple[dict, dict[int, list[Bar]]]]:
    """({model, target, source, settings}, bars by tokens) for each GPU of checked rows that has quantized
    kernels or several token counts."""
    kernels = rows[rows["level"] == KERNEL]
    kernels = kernels.assign(settings=[others(text, "kernel", "dtype", "published") for text in kernels["settings"]],
                             _settings=kernels["settings"])  # fmt: skip
    for key, same in [] if kernels.empty else groups(kernels, ["model", "target", "source", "settings"]):
        bars = _bars(same.assign(settings=same["_settings"]))
        by_tokens = {count: [bar for bar in bars if bar.tokens == count] for count in {bar.tokens for bar in bars}}
        by_tokens = {count: by_tokens[count] for count in sorted(by_tokens) if reference_of(by_tokens[count])}
        most = max(map(len, by_tokens.values()), default=0)
        if most > 2 or (most == 2 and len(by_tokens) > 1):
            yield key, by_tokens


def _bars(rows: pd.DataFrame) -> list[Bar]:
    """The dense bar and the bar of each kernel, once for each type and token count."""
    found: dict[tuple[int, str, str], Bar] = {}
    for key, part in groups(rows, KEYS):
        whole = sums(part)
        kernel, tokens = setting(key["settings"], "kernel"), int(key["tokens"])
        dtype = type_of(key["settings"])
        missing = float("nan") if whole["infeasible_layers"] else 1.0
        own, dense = missing * whole["latency_us"], missing * whole["dense_latency_us"]
        if key["source"] == "measured" or kernel:
            name = kernel if kernel in QUANTIZED else f"{kernel} {dtype}"
            if kernel in MASKED and pd.notna(key["target_sparsity"]):
                name += f", {1 - key['target_sparsity']:.0%} kept"
            bars = [Bar(tokens, dtype, is_24(kernel), name, own)]
        else:
            error, ratio_error = (
                0.0 if pd.isna(whole[name]) else float(whole[name])
                for name in ("latency_error_p90", "speedup_error_p90")
            )
            bars = [Bar(tokens, dtype, False, f"dense {dtype}", dense, error)]
            if (part["kernel"].map(is_24) | (part["source"] == "published")).any():
                bars.append(Bar(tokens, dtype, True, f"2:4 {dtype}", own, error, ratio_error))
        for bar in bars:
            found.setdefault((tokens, bar.dtype, bar.name), bar)
    return list(found.values())


def bits_of(bar: Bar) -> int:
    return 4 if "4" in bar.dtype else 8 if "8" in bar.dtype else 16


def reference_of(bars: list[Bar]) -> Bar | None:
    """What the others are held against: the dense kernel of the widest type."""
    dense = [bar for bar in bars if not bar.sparse and bar.latency_us > 0]
    return max(dense, key=bits_of, default=None)
