"""BESA's published simulator of the ViTCoD array (BESA, ICLR 2024, speedup table), reproduced with its quirks.

Level "paper": a formula over one token with neither memory nor lane imbalance. For W of shape (R, C) on a PE array of
width x height:
  1. columns with more than ratio * R kept weights (ratio starts at 0.5) are dense, the rest sparse;
  2. columns are moved to the front by relabelling, and n_sparse kept entries remain right of the dense ones;
  3. PE columns are split between the two engines in proportion to their work, rounded down;
  4. the ratio moves by 0.1 while the dense columns hold >= 60 % or <= 40 % of the kept weights, five tries at most; the
     fewest cycles count. Where C > R, column patches of width R are searched one by one and their cycles added.

Quirks kept on purpose: the dense term has C where R belongs; label 200 is both a scratch label and a real one, so
entries are merged (`relabel`); the split leaves an engine of zero columns at no cost.
"""

from dataclasses import dataclass

import numpy as np

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.vitcod.relabel import count_right_of, relabel
from simulator.cycles import LayerCycles, Outcome, ceil_div
from simulator.machine.parts import Array, Clock
from simulator.statistics import Statistics
from simulator.work import Work
from workloads.mask import PackedMask


@dataclass(frozen=True)
class VitcodPaperSpec:
    array: Array
    clock: Clock

    @property
    def macs(self) -> int:
        return self.array.width * self.array.height


class VitcodPaper(Accelerator):
    name = "vitcod-paper"
    spec_type = VitcodPaperSpec
    spec: VitcodPaperSpec
    level = "paper"
    only_tokens = 1
    notes = (
        "A published formula, quirks included: one token, no memory, no lanes; its imbalance_cycles are what rounding, "
        "the split between the engines and zeros in dense columns lose.",
        "Its dense term has the number of inputs where the number of outputs belongs, so the dense cycles its program "
        "prints (published_dense_cycles) are not outputs x inputs / PEs. With more than twice as many outputs as "
        "inputs it is even below the ideal cycles of a half-pruned mask: a ratio below 1 against it is a property of "
        "that program, not a slowdown.",
        "Its column reordering merges two rows and two columns of layers that have more than 200 of them.",
    )

    def geometry(self) -> list[int]:
        return [self.spec.array.width, self.spec.array.height]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """The formula needs the mask itself, so that its results are the statistics."""
        width, height = self.spec.array.width, self.spec.array.height
        total = 0
        published_dense = 0
        for start in range(0, mask.cols, mask.rows):
            stop = min(start + mask.rows, mask.cols)
            patch = mask if stop - start == mask.cols else mask.columns(start, stop)
            total += search(patch, width, height)
            published_dense += ceil_div(patch.cols * patch.cols, width * height)
        return {"cycles": np.array([total]), "published_dense": np.array([published_dense])}

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """Weight bits, scales and activation density have no influence."""
        return _formula(int(statistics["cycles"][0]), work.nnz / self.spec.macs)

    def evaluate(self, work: Work, statistics: Statistics) -> Outcome:
        """The unpruned layer has all its MACs on all PEs, not what the published program counts."""
        macs = work.rows * work.cols
        return Outcome(
            sparse=self.layer(work, statistics),
            unpruned=_formula(ceil_div(macs, self.spec.macs), macs / self.spec.macs),
            published_dense_cycles=int(statistics["published_dense"][0]),
        )


def search(patch: PackedMask, width: int, height: int) -> int:
    """Fewest cycles over at most five ratios for a patch with cols <= rows."""
    column_counts = patch.column_counts()
    kept = int(column_counts.sum())
    ratio = 0.5
    best: int | None = None
    for _ in range(5):
        dense = np.flatnonzero(column_counts > ratio * patch.rows)
        cycles = try_split(patch, column_counts, dense, width, height)
        best = cycles if best is None else min(best, cycles)
        kept_in_dense = int(column_counts[dense].sum())
        share = kept_in_dense / kept if kept else 0.5  # nothing kept: no ratio is better than another
        if share >= 0.6:
            ratio += 0.1
        elif share <= 0.4:
            ratio -= 0.1
        else:
            break
    assert best is not None
    return best


def try_split(patch: PackedMask, column_counts: np.ndarray, dense: np.ndarray, width: int, height: int) -> int:
    """Cycles when the columns `dense` (ascending) go to the denser engine."""
    n_dense = len(dense)
    labels = relabel(dense, patch.rows)
    n_sparse = count_right_of(patch, column_counts, labels, n_dense)
    dense_work = n_dense * patch.rows
    share = dense_work / (n_sparse + dense_work) if n_sparse + dense_work else 0.0
    dense_width = int(width * share)
    sparse_width = width - dense_width
    dense_cycles = ceil_div(patch.cols * n_dense, dense_width * height) if dense_width else 0
    sparse_cycles = ceil_div(n_sparse, sparse_width * height) if sparse_width else n_sparse
    return max(dense_cycles, sparse_cycles)


def _formula(cycles: int, ideal_cycles: float) -> LayerCycles:
    return LayerCycles(cycles, 0, 0, ideal_cycles, 0, 0, 0, 0, mapping="")
