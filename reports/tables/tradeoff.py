"""The lines of a perplexity-against-speedup figure: what every method and target costs and brings, on every machine."""

import numpy as np
import pandas as pd

from reports.tables.quality import DENSE, target_name
from reports.tables.sums import CONFIG, groups

_POINT = ["method", "pattern", "target_sparsity", "target_name", "speedup", "perplexity"]
_BANDS = ["speedup_low", "speedup_high", "perplexity_low", "perplexity_high"]


def tradeoffs(headline: pd.DataFrame) -> pd.DataFrame:
    """The lines of `headline_table` whose speedup and perplexity are known, and the unpruned model (1x) beside them on
    every configuration, with `target_name` and `front`: nothing there is as fast and as good, and better in one of the
    two. `speedup_low` to `perplexity_high`: one sample standard deviation over seeds to either side, or what the stated
    error of nine in ten predictions makes of the speedup; NaN where neither is known.

    Only models are kept that have two such lines on a configuration; empty where there is none.
    """
    if headline.empty:
        return pd.DataFrame()
    known = headline[
        np.isfinite(headline["speedup"]) & np.isfinite(headline["perplexity"]) & (headline["source"] != "published")
    ]
    parts = []
    for key, lines in groups(known, CONFIG):
        if len(lines) < 2:
            continue
        named = [target_name(line) for line in lines.to_dict("records")]  # type: ignore[arg-type]
        lines = _with_bands(lines.assign(target_name=named))[[*CONFIG, *_POINT, *_BANDS, "evaluation_text"]]
        dense = {
            **key,
            "method": DENSE,
            "target_name": "",
            "speedup": 1.0,
            "perplexity": known.loc[lines.index[0], "dense_perplexity"],
        }
        if np.isfinite(dense["perplexity"]):
            dense["evaluation_text"] = lines["evaluation_text"].iloc[0]
            lines = pd.concat([lines, pd.DataFrame([dense])], ignore_index=True)
        parts.append(lines.assign(front=on_front(lines["speedup"].to_numpy(), lines["perplexity"].to_numpy())))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def on_front(speedup: np.ndarray, perplexity: np.ndarray) -> np.ndarray:
    """Which points no other point beats: at least as fast and at most as perplexed, and not the same in both."""
    faster = speedup[None, :] >= speedup[:, None]
    better = perplexity[None, :] <= perplexity[:, None]
    same = (speedup[None, :] == speedup[:, None]) & (perplexity[None, :] == perplexity[:, None])
    return ~(faster & better & ~same).any(axis=1)


def _with_bands(lines: pd.DataFrame) -> pd.DataFrame:
    speedup, perplexity = lines["speedup"], lines["perplexity"]
    error, seeds = lines["speedup_error_p90"], lines["speedup_spread"]
    return lines.assign(
        speedup_low=(speedup / (1 + error)).fillna(speedup - seeds),
        speedup_high=(speedup / (1 - error.where(error < 1))).fillna(speedup + seeds),
        perplexity_low=perplexity - lines["perplexity_spread"],
        perplexity_high=perplexity + lines["perplexity_spread"],
    )
