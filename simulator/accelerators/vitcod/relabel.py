"""The label walk by which the published simulators move dense columns to the front.

Rows and columns share one space of labels. For i = 0 .. g-1 in turn, with d the original index of the i-th dense
column: every label i becomes SCRATCH, every label d becomes i, every label SCRATCH becomes d, on rows and columns
alike. SCRATCH = 200 was meant as "nobody's label" but is a real one in matrices larger than that, so labels merge
there.
"""

import numpy as np
from numba import njit

from workloads.mask import PackedMask

SCRATCH = 200


@njit(cache=True)
def relabel(dense: np.ndarray, size: int) -> np.ndarray:
    """Final label of every original label 0 .. size-1, (size,) int64, given the dense columns in ascending order.

    Members of a label form a linked list, so a step costs O(1) and the walk O(size + g).
    """
    space = max(size, SCRATCH + 1)
    head = np.full(space, -1, dtype=np.int64)
    tail = np.full(space, -1, dtype=np.int64)
    following = np.full(size, -1, dtype=np.int64)
    for label in range(size):
        head[label] = label
        tail[label] = label
    # head[l] .. tail[l], by following[], are the places labelled l, -1: none. A step swaps labels i and d through
    # SCRATCH.
    for i in range(len(dense)):
        d = dense[i]
        _move(head, tail, following, i, SCRATCH)
        _move(head, tail, following, d, i)
        _move(head, tail, following, SCRATCH, d)
    labels = np.empty(size, dtype=np.int64)
    for label in range(space):
        member = head[label]
        while member >= 0:
            labels[member] = label
            member = following[member]
    return labels


@njit(cache=True)
def _move(head, tail, following, source, target):
    """Everything labelled `source` becomes labelled `target`."""
    if source == target or head[source] < 0:
        return
    if head[target] < 0:
        head[target] = head[source]
    else:
        following[tail[target]] = head[source]
    tail[target] = tail[source]
    head[source] = -1
    tail[source] = -1


def count_right_of(mask: PackedMask, column_counts: np.ndarray, labels: np.ndarray, first: int) -> int:
    """Distinct entries (row label, column label) with first <= column label < cols and row label < rows.

    Entries that share both labels count once (they were OR-ed); entries labelled outside the matrix are dropped.
    """
    column_labels = labels[: mask.cols]
    right = (column_labels >= first) & (column_labels < mask.cols)
    row_labels = labels[: mask.rows]
    groups = [rows for rows in _groups(row_labels) if row_labels[rows[0]] < mask.rows]
    dropped = np.flatnonzero(row_labels >= mask.rows)
    merged_columns = [g for g in _groups(column_labels) if right[g[0]]]
    single = right.copy()
    for columns in merged_columns:
        single[columns] = False
    total = int(column_counts[single].sum())
    for rows in [*groups, *(np.array([row]) for row in dropped)]:  # these rows count as one row, or as none
        bits = PackedMask(mask.words[rows], mask.cols).to_dense()[:, single]
        together = int(bits.any(axis=0).sum()) if row_labels[rows[0]] < mask.rows else 0
        total += together - int(bits.sum())
    for columns in merged_columns:
        present = np.zeros(mask.rows, dtype=bool)
        for column in columns:
            present |= (mask.words[:, column // 64] >> np.uint64(column % 64) & np.uint64(1)).astype(bool)
        total += len({int(label) for label in row_labels[present] if label < mask.rows})
    return total


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """Indices that share a label with others, one array per shared label."""
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order])) + 1
    return [group for group in np.split(order, bounds) if len(group) > 1]
