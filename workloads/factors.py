"""A matrix as a product of two factors, each of dense blocks: what a layer runs as where it was factorized.

    W = shuffle_out . blockdiag(second) . shuffle . blockdiag(first)

`first` are c blocks (q, in / c), `second` are g blocks (out / g, c q / g). The outputs of `first`, block after block,
are channels m = 0 ...; channel m enters block m mod g of `second` at position m div g, and output s of block l is
output s g + l of the layer. One block in `second`: nothing is shuffled. LowRank has c = g = 1, BlockDense g = 1,
BlockShuffle c = g (methods 8.1)."""

from dataclasses import dataclass

from workloads.errors import UserError

Blocks = tuple[int, int, int]  # how many, their outputs, their inputs


@dataclass(frozen=True)
class Factors:
    """Sizes alone. Raises UserError for factors that do not fit together."""

    first: Blocks
    second: Blocks

    def __post_init__(self) -> None:
        fits = min(*self.first, *self.second) >= 1
        if not fits or self.first[0] * self.first[1] != self.second[0] * self.second[2]:
            raise UserError(f"factors of {words(self.first)} and {words(self.second)} weights do not fit together")
        if self.first[1] % self.second[0]:
            raise UserError(
                f"{self.second[0]} blocks cannot share the {self.first[1]} outputs of each block of the first factor"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features) of the product."""
        return self.second[0] * self.second[1], self.first[0] * self.first[2]

    @property
    def n_weights(self) -> int:
        return sum(blocks * rows * cols for blocks, rows, cols in (self.first, self.second))

    @property
    def words(self) -> str:
        """ "2 x 86 x 32, then 172 x 64": blocks, outputs and inputs of both."""
        return f"{words(self.first)}, then {words(self.second)}"


def words(blocks: Blocks) -> str:
    count, rows, cols = blocks
    return f"{rows:,} x {cols:,}" if count == 1 else f"{count} x {rows:,} x {cols:,}"
