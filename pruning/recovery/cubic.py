"""How a share rises over the steps of a run: fast at first, when there is much to spare, and slowly towards its end.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017, equation 1
(methods 12.2).
"""


def risen(done: int, last: int) -> float:
    """1 - (1 - done / last)^3 after `done` steps: 0 at the first, exactly 1 from step `last` on."""
    return 1.0 if done >= last else 1.0 - (1.0 - done / last) ** 3
