"""Ranks of adapters by the importance of the blocks (methods 19.6)."""

import math
from collections.abc import Sequence

from workloads.errors import UserError


def ranks_by_importance(rank: int, importance: Sequence[float]) -> list[int]:
    """A rank for every block, at least 1, `rank` on the mean exactly: rank * w_i / mean(w), rounded by the largest
    remainder, ties to the earlier block. Raises UserError for importances that are negative, not finite or all 0.
    """
    total = math.fsum(importance)
    if not (math.isfinite(total) and min(importance) >= 0 and total > 0):
        raise UserError(f"importances are numbers of at least 0, and not all 0: {', '.join(map(str, importance))}")
    shares = [rank * len(importance) * weight / total for weight in importance]
    ranks = [max(1, math.floor(share)) for share in shares]
    while (missing := rank * len(ranks) - sum(ranks)) != 0:
        short = [share - own for share, own in zip(shares, ranks, strict=True)]
        if missing > 0:
            ranks[short.index(max(short))] += 1
        else:  # blocks of little importance were raised to 1
            ranks[min((s, n) for n, s in enumerate(short) if ranks[n] > 1)[1]] -= 1
    return ranks


def read_importance(text: str, blocks: int) -> list[float]:
    """Numbers with commas between them, one a block. Raises UserError for anything else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"`importance` is kept, or numbers with commas between, not {text!r}") from None
    if len(numbers) != blocks:
        raise UserError(f"`importance` gives {len(numbers)} numbers, the model has {blocks} blocks; give one for each")
    return numbers
