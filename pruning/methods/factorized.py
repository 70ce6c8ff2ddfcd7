"""FFN matrices as products of smaller, dense ones: LowRank, BlockDense, BlockShuffle (methods 8; Wei et al., "Building
on Efficient Foundations: Effectively Training LLMs with Structured Feedforward Layers", NeurIPS 2024).

lowrank: W = B A, A (rank, in), B (out, rank). blockdense: A is block-diagonal, `blocks` of (rank / blocks, in /
blocks). blockshuffle: both are block-diagonal, `blocks` of (width, in / blocks) and (out / blocks, width), with a
shuffle between them and one behind. `sparsity` is the share of each matrix's weights that goes; ranks come nearest to
it in steps that the blocks divide, and never hold more weights than there were. Or the rank (width) is given, and no
sparsity.

The factors are truncated SVDs of the weight, or (data_aware) of what it makes of the calibration tokens, with X^T X
damped by `damping` times its mean diagonal; a block sees what the factorized blocks before it produce. Attention is
left alone, and so are the FFNs of the first `dense_blocks` blocks.

Deviations: the paper trains from scratch (methods 8.3), here the weights of a trained model are projected. Its
BlockShuffle has one width, min(in, out) / blocks; others follow from `sparsity`. Nothing is trained afterwards: at high
sparsity the model is of no use before fine-tuning.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from pydantic import Field

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.factorization import project, roots_of
from pruning.methods.method import PruningMethod
from pruning.second_order.hessians import Inputs
from workloads.errors import NotForThisModel, UserError
from workloads.factors import Factors
from workloads.layers import FFN_ROLES, Layer
from workloads.patterns import FACTORED


@dataclass(frozen=True)
class Factorized(PruningMethod):
    """What the three share: a layer is cut into `grid` blocks of columns and groups of rows."""

    rules: ClassVar[tuple[str, ...]] = ("rank",)
    changes_weights = True
    leaves = FACTORED

    data_aware: bool = True
    damping: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    dense_blocks: Annotated[int, Ge(0)] = 1

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.ENERGY, Need.HESSIAN}) if self.data_aware else frozenset()

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks of the first factor, and of the second."""
        raise NotImplementedError

    @property
    def given(self) -> int:
        """Outputs of each block of the first factor, where they are asked for; 0: the sparsity says how many."""
        raise NotImplementedError

    @property
    def settles(self) -> bool:
        return self.given > 0

    def takes(self, layer: Layer) -> bool:
        return layer.role in FFN_ROLES and layer.block >= self.dense_blocks

    def check_layer(self, layer: Layer) -> None:
        columns, groups = self.grid
        for what, size, blocks in (("inputs", layer.in_features, columns), ("outputs", layer.out_features, groups)):
            if size % blocks:
                raise NotForThisModel(
                    f"{layer.name}: {blocks} blocks do not divide its {size:,} {what}; choose other `blocks`, or leave "
                    "it out by `skip`"
                )
        self.sizes(layer, 0.0)

    def sizes(self, layer: Layer, sparsity: float) -> Factors:
        """Raises NotForThisModel where the factors would hold more than the matrix."""
        (columns, groups), (rows, cols) = self.grid, layer.shape
        weights = cols + rows * columns // groups  # of a width of 1
        most = rows * cols // (weights * groups)
        wanted = round((1 - sparsity) * rows * cols / (weights * groups))
        width = self.given or groups * max(1, min(wanted, most))
        if width * weights > rows * cols:
            raise NotForThisModel(
                f"{layer.name}: factors of width {width:,} hold {width * weights:,} weights, the matrix {rows * cols:,}"
                "; ask for less, or leave it out by `skip`"
            )
        return Factors((columns, width, cols // columns), (groups, rows // groups, columns * width // groups))

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        roots = Roots(job, self.grid[0], self.damping) if self.data_aware else None
        made = {}
        for ref in job.refs:
            weight = job.weight(ref)
            sizes = self.sizes(ref.layer, job.sparsity[ref.layer.name])
            pair = project(weight, sizes, roots.of(ref) if roots is not None else None)
            made[ref.layer.name] = Decision(torch.ones_like(weight, dtype=torch.bool), factors=pair)
        return made


class Roots:
    """The roots of what comes into the matrices of a block, made once for those with the same input."""

    def __init__(self, job: BlockJob, columns: int, damping: float):
        self._job, self._columns, self._damping = job, columns, damping
        self._inputs = Inputs(job, "its weight alone is approximated")
        self._latest: tuple[object, list[torch.Tensor]] | None = None

    def of(self, ref: LinearRef) -> list[torch.Tensor] | None:
        """None where nothing, or only zeros, came in."""
        moments = self._inputs.of(ref)
        if moments is None:
            return None
        if self._latest is None or self._latest[0] is not moments:
            assert moments.hessian is not None
            try:
                made, damping = roots_of(moments.hessian, self._columns, self._damping)
            except UserError as error:
                raise UserError(f"{ref.layer.name}: {error}") from None
            if damping > self._damping:
                self._job.warn(f"{ref.layer.name}: damping {damping:g} instead of {self._damping:g}, which failed")
            self._latest = (moments, made)
        return self._latest[1]


@dataclass(frozen=True)
class LowRank(Factorized):
    """rank: of all matrices alike; 0: by the sparsity."""

    name = "lowrank"

    rank: Annotated[int, Ge(0)] = 0

    @property
    def grid(self) -> tuple[int, int]:
        return 1, 1

    @property
    def given(self) -> int:
        return self.rank


@dataclass(frozen=True)
class BlockDense(Factorized):
    """rank: outputs of the first factor in all, a multiple of `blocks`; 0: by the sparsity."""

    name = "blockdense"

    blocks: Annotated[int, Ge(1)] = 4
    rank: Annotated[int, Ge(0)] = 0

    @property
    def grid(self) -> tuple[int, int]:
        return self.blocks, 1

    @property
    def given(self) -> int:
        return self.rank // self.blocks

    def check(self, sparsity: float) -> None:
        if self.rank % self.blocks:
            raise UserError(f"blockdense: rank {self.rank} is no multiple of `blocks` {self.blocks}")


@dataclass(frozen=True)
class BlockShuffle(Factorized):
    """width: outputs of each block of the first factor, a multiple of `blocks`; 0: by the sparsity."""

    name = "blockshuffle"

    blocks: Annotated[int, Ge(1)] = 2
    width: Annotated[int, Ge(0)] = 0

    @property
    def grid(self) -> tuple[int, int]:
        return self.blocks, self.blocks

    @property
    def given(self) -> int:
        return self.width

    def check(self, sparsity: float) -> None:
        if self.width % self.blocks:
            raise UserError(f"blockshuffle: width {self.width} is no multiple of `blocks` {self.blocks}")
