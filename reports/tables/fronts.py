"""Pareto fronts and hypervolumes in any number of dimensions, all of which are minimised."""

import numpy as np

_AT_ONCE = 512  # points that are held against each other at once


def nondominated(points: np.ndarray) -> np.ndarray:
    """Which points (n, d) no other one dominates, that is, is at least as good in all and better in one. (n,) bool;
    equal points are on the front together, points with a missing value on none."""
    front = np.isfinite(points).all(axis=1)
    if len(points) <= _AT_ONCE:
        able = points[front]
        no_worse = (able[:, None] <= able[None]).all(axis=2)  # (by, of)
        front[front] = ~(no_worse & ~no_worse.T).any(axis=0)
        return front
    order = np.lexsort(points.T[::-1])
    kept: list[int] = []
    for place in order[front[order]]:
        # in this order nothing that comes later can dominate what came before
        better = points[kept] <= points[place]
        if kept and (better.all(axis=1) & (points[kept] < points[place]).any(axis=1)).any():
            front[place] = False
        else:
            kept.append(int(place))
    return front


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume that points (n, d) dominate below `reference` (d,): of the union of the boxes between each and it.

    In slabs along the last dimension, each as thick as it is to the next point and as large as the volume, in one
    dimension less, of all points before (Zitzler, "Hypervolume metric calculation", 2001). n^(d - 2) sorted lists."""
    inside = points[(points < reference).all(axis=1)]
    return 0.0 if len(inside) == 0 else _volume(inside[nondominated(inside)], reference)


def _volume(points: np.ndarray, reference: np.ndarray) -> float:
    """Of points (n, d), one or more, all below the reference."""
    if points.shape[1] == 1:
        return float(reference[0] - points[:, 0].min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], reference[-1])
    thick = ends - points[:, -1]
    if points.shape[1] == 2:
        return float(((reference[0] - np.minimum.accumulate(points[:, 0])) * thick).sum())
    return float(
        sum(
            slab * _volume(points[: place + 1, :-1], reference[:-1])
            for place, slab in enumerate(thick.tolist())
            if slab > 0
        )
    )


def exclusive(point: np.ndarray, others: np.ndarray, reference: np.ndarray) -> float:
    """The volume that a point (d,) dominates and none of `others` (n, d) does."""
    return float(np.prod(reference - point)) - hypervolume(np.maximum(others, point), reference)


def covered(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(n,) the hypervolume of the first 1, 2, ... n of points (n, d); what has a missing value, or is not below
    `reference`, adds nothing."""
    volumes = np.zeros(len(points))
    front = np.empty((0, points.shape[1]))
    volume = 0.0
    for place, point in enumerate(points):
        beaten = len(front) and (front <= point).all(axis=1).any()
        if np.isfinite(point).all() and (point < reference).all() and not beaten:
            volume += exclusive(point, front, reference)
            front = np.vstack([front[~(front >= point).all(axis=1)], point])
        volumes[place] = volume
    return volumes


def scaled(points: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """(n, d) each axis from 0 at `least` to 1 at `most`; 0 where these are one."""
    span = most - least
    return (points - least) / np.where(span > 0, span, 1.0)
