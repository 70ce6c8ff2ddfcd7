"""Values between published ones."""

import math
from collections.abc import Mapping


def power_law(points: Mapping[int, float], x: float) -> float:
    """The curve through `points` (at least two, all positive) made of straight lines in log-log scale.

    Exact at the points; beyond the ends the nearest line goes on. Increasing points give an increasing curve.
    """
    if x in points:
        return points[int(x)]
    xs = sorted(points)
    i = next((i for i in range(1, len(xs) - 1) if x < xs[i]), len(xs) - 1)
    low, high = xs[i - 1], xs[i]
    share = math.log(x / low) / math.log(high / low)
    return points[low] * (points[high] / points[low]) ** share
