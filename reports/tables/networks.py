"""The quality of networks that are no language models: seeds become a mean and a spread, each beside the dense one."""

import pandas as pd

from reports.tables.quality import DENSE, NOT_PRUNED, target_name
from reports.tables.sums import groups, spread

OF_ONE = ["model", "metric", "better", "samples"]


def parted(quality: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows of perplexities, rows of networks)."""
    if quality.empty or "metric" not in quality:
        return quality, pd.DataFrame()
    own = quality["metric"].fillna("") != ""
    return quality[~own].reset_index(drop=True), quality[own].reset_index(drop=True)


def network_table(networks: pd.DataFrame) -> pd.DataFrame:
    """A line a model, method and target: value (mean over seeds), value_spread, dense_value, seeds, sparsity. Empty
    without networks."""
    lines = []
    for model, same in groups(networks, OF_ONE) if not networks.empty else ():
        dense = same.loc[same["method"] == DENSE, "value"]
        for key, part in groups(same, ["method", "pattern", "target_sparsity"]):
            lines.append(
                {
                    **model,
                    "method": key["method"],
                    "target_name": NOT_PRUNED if key["method"] == DENSE else target_name(key),
                    "sparsity": float(part["sparsity"].mean()),
                    "value": float(part["value"].mean()),
                    "value_spread": spread(part["value"]),
                    "dense_value": float(dense.iloc[0]) if len(dense) else float("nan"),
                    "seeds": len(part),
                }
            )
    return pd.DataFrame(lines)
