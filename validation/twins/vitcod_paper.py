"""A slow, literal twin of ViTCoD's published simulator, written from its description alone.

It keeps the kept weights as two plain arrays, one of row labels and one of column labels, and walks the published
relabelling over them step by step; nothing in it is shared with the product.
"""

import math

import numpy as np

from validation.twins.twin import Twin

SPARE = 200  # the label that the published walk parks entries on, a real label in large matrices


def walk(labels, dense):
    """The published reordering of one array of labels, in place: `dense` = dense columns' indices, ascending."""
    for i, column in enumerate(dense):
        labels[labels == i] = SPARE
        labels[labels == column] = i
        labels[labels == SPARE] = column


def right_of_dense(mask, dense):
    """n_s: what is kept at column labels >= g after the walk, merged entries counted once, those outside dropped."""
    entries = np.argwhere(mask)
    rows, cols = entries[:, 0].copy(), entries[:, 1].copy()
    walk(rows, dense)
    walk(cols, dense)
    inside = (rows < mask.shape[0]) & (cols < mask.shape[1])
    pairs = np.unique(rows[inside] * mask.shape[1] + cols[inside])
    return int(np.count_nonzero(pairs % mask.shape[1] >= len(dense)))


def right_of_dense_by_label(mask, dense):
    """As `right_of_dense`, walking each label once instead of each entry: for matrices of millions of entries."""
    moved = np.arange(max(mask.shape))
    walk(moved, dense)
    rows, cols = (moved[labels] for labels in np.nonzero(mask))
    inside = (rows < mask.shape[0]) & (cols < mask.shape[1])
    reordered = np.zeros(mask.shape, bool)
    reordered[rows[inside], cols[inside]] = True
    return int(reordered[:, len(dense) :].sum())


def try_cycles(R, C, g, n_s, W, H):
    share = g * R / (n_s + g * R)
    w = int(W * share)
    dense_cycles = 0 if w == 0 else math.ceil(C * g / (w * H))
    sparse_cycles = n_s if W - w == 0 else math.ceil(n_s / ((W - w) * H))
    return max(dense_cycles, sparse_cycles)


def patch_tries(mask, W, H, right_of=right_of_dense):
    """[(dense columns, cycles)] of each try over one matrix no wider than high."""
    R, C = mask.shape
    counts = [int(count) for count in mask.sum(axis=0)]
    E = sum(counts)
    if E == 0:
        return [([], 0)]
    r = 0.5
    tries = []
    for _ in range(5):
        dense = [column for column in range(C) if counts[column] > r * R]
        D = sum(counts[column] for column in dense)
        tries.append((dense, try_cycles(R, C, len(dense), right_of(mask, dense), W, H)))
        if D / E >= 0.6:
            r += 0.1
        elif D / E <= 0.4:
            r -= 0.1
        else:
            break
    return tries


def patches(mask):
    R, C = mask.shape
    return [mask[:, first : first + R] for first in range(0, C, R)]


def twin_cycles(mask, W, H, right_of=right_of_dense):
    return sum(min(cycles for _, cycles in patch_tries(patch, W, H, right_of)) for patch in patches(mask))


def twin_published_dense(R, C, W, H):
    widths = [min(R, C - first) for first in range(0, C, R)]
    return sum(math.ceil(width * width / (W * H)) for width in widths)


def skewed(seed, R, C, heavy=0.3, low=0.15, high=0.85, full=(), bare=()):
    """A random mask with a share `heavy` of its columns kept at `high`, the others at `low`; `full` ones dense, `bare`
    ones sparse in any case."""
    rng = np.random.default_rng(seed)
    density = np.where(rng.random(C) < heavy, high, low)
    density[list(full)] = 0.97
    density[list(bare)] = 0.02
    return rng.random((R, C)) < density


TWIN = Twin(
    run_layer=lambda spec, weights, kept, inputs: twin_cycles(kept, spec.array.width, spec.array.height),
    machines=(("array.width=8", "array.height=4"), ("array.width=5", "array.height=3"), ()),
    name="vitcod-paper",
    not_promised={
        "full mask is the baseline": "the published formula rounds each patch and each of its two engines up",
        "more zeros": "the published search moves columns between its engines as the mask changes",
    },
)
