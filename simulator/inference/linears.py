"""Weight matrices of decoders on an accelerator: its own cycle model, with the mask where there is one.

Of several chips each has a part of a matrix, and so a part of its mask; all wait for the slowest. Outputs or inputs
are cut in equal parts, in order; rows of kv heads that are fewer than the chips are on several of them. A matrix of
fused q, k, v or gate, up is cut so too, though each chip has its part of each: which rows meet there differs.

Many tokens run in 1, 2, 4 ... passes, as many as take the least time: weights are loaded in each, and what would spill
in one pass over all tokens may stay on chip."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from simulator.accelerators import Accelerator
from simulator.accelerators.baseline import beside_unpruned
from simulator.cycles import Infeasible, LayerCycles
from simulator.layer_rows import evaluate
from simulator.statistics import Statistics, StatisticsStore
from simulator.work import Work
from workloads.conditions import Conditions
from workloads.counts import Counts
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.operations import Linear, Weights
from workloads.operations.gemm import BITMAP, Matrix
from workloads.patterns import DENSE, UNSTRUCTURED, parse_pattern
from workloads.synthetic import keep_exactly, n_of_m, stream


@dataclass(frozen=True)
class Cost:
    """Of one execution; `bound` as LayerCycles has it."""

    us: float
    bound: str
    counts: Counts


@dataclass(frozen=True)
class Linears:
    """Of a model on a design: `masked` by what tells them apart (`content_of`), statistics in `store`. `tokens` will be
    asked for: a mask is then evaluated for all of them, as its statistics are at hand."""

    accelerator: Accelerator
    masked: Mapping[str, Linear] = field(default_factory=dict)
    store: StatisticsStore = field(default_factory=lambda: StatisticsStore(hold=True))
    tokens: frozenset[int] = frozenset()
    known: dict[tuple[Matrix, int], Cost | UserError] = field(default_factory=dict)

    def cost(self, matrix: Matrix, tokens: int) -> Cost:
        """Raises UserError where the matrix does not fit the machine."""
        if (matrix, tokens) not in self.known:
            self._evaluate(matrix, tokens)
        found = self.known[matrix, tokens]
        if isinstance(found, UserError):
            raise found
        return found

    def stored_bytes(self, matrix: Matrix) -> float:
        """Of weights, metadata and scales, as the machine stores them: what one token loads; 0 where its model has
        them there already."""
        if matrix.factors is not None:
            return sum(blocks * self.stored_bytes(part) for _, blocks, part in matrix.parts)
        return self.cost(matrix, 1).counts.bytes_weight

    def _evaluate(self, matrix: Matrix, tokens: int) -> None:
        """Of several chips the slowest."""
        if not matrix.mask and matrix.stored == DENSE:
            sides, bits = (matrix.out_features, matrix.in_features), (matrix.weight_bits, matrix.group_size)
            self.known[matrix, tokens] = self._cost(
                matrix, tokens, lambda n: dense_cycles(self.accelerator, *sides, n, *bits)
            )
            return
        one = self.masked[matrix.mask] if matrix.mask else random_linear(matrix)
        every, store = list(parts(one, matrix, self.accelerator.reads_values)), self.store.within()

        def slowest(n: int) -> LayerCycles:
            runs = [evaluate(self.accelerator, part, Conditions(n), store).sparse for part in every]
            return max(runs, key=lambda run: run.cycles)

        for each in {tokens, *self.tokens}:
            self.known[matrix, each] = self._cost(matrix, each, slowest)

    def _cost(self, matrix: Matrix, tokens: int, run: Callable[[int], LayerCycles]) -> Cost | UserError:
        """Or why there is none."""
        try:
            cycles, passes = in_passes(run, tokens)
        except Infeasible as error:
            return UserError(f"{matrix.role} of {matrix.out_features} x {matrix.in_features}: {error}")
        except UserError as error:
            return error
        moved = Counts(
            2.0 * tokens * matrix.out_features * matrix.in_features,
            float(passes * _loaded(cycles)),
            float(passes * _moved(cycles)),
        )
        return Cost(passes * cycles.cycles / self.accelerator.spec.clock.mhz, cycles.bound, moved)


def in_passes(run: Callable[[int], LayerCycles], tokens: int) -> tuple[LayerCycles, int]:
    """(one pass, how many): the last, where tokens do not divide, counts as a full one. More are tried only where
    tokens move more bytes than weights, which each pass loads anew: no memory time could be saved elsewhere."""
    best = found = run(tokens)
    fewest = passes = 1
    while 2 * passes <= tokens and _moved(found) > _loaded(found):
        passes *= 2
        found = run(-(-tokens // passes))
        if passes * found.cycles < fewest * best.cycles:
            best, fewest = found, passes
    return best, fewest


def _loaded(cycles: LayerCycles) -> int:
    return cycles.weight_bytes + cycles.metadata_bytes + cycles.scale_bytes


def _moved(cycles: LayerCycles) -> int:
    return cycles.activation_bytes + cycles.output_bytes


def dense_cycles(
    accelerator: Accelerator, rows: int, cols: int, tokens: int, weight_bits: int | None = None,
    group_size: int | None = None,
) -> LayerCycles:  # fmt: skip
    """Of an unpruned matrix. Raises Infeasible, and UserError for more tokens than cycles have room for."""
    Conditions(tokens)
    return _dense(accelerator, Work(rows, cols, rows * cols, tokens, weight_bits, group_size, 1.0, True))


@lru_cache(maxsize=4096)
def _dense(accelerator: Accelerator, work: Work) -> LayerCycles:
    return beside_unpruned(accelerator, work, Statistics({})).sparse


def random_linear(matrix: Matrix) -> Linear:
    """Under a random mask, the same for all that are alike: of a matrix of whose mask no more is known than its
    pattern, or the number of kept weights."""
    sides = matrix.out_features, matrix.in_features
    kind = f"random {sides[0]} x {sides[1]} {matrix.stored} {matrix.nnz}"
    pattern = None if matrix.stored == BITMAP else parse_pattern(matrix.stored)
    if pattern is None:
        kept = round(matrix.nnz or 0)
        mask = partial(keep_exactly, stream(0, kind), *sides, kept)
    else:
        kept = sides[0] * sides[1] // pattern.m * pattern.n
        mask = partial(n_of_m, stream(0, kind), *sides, pattern)
    name = UNSTRUCTURED if pattern is None else matrix.stored
    weights = Weights(name, kept, kind, mask, matrix.weight_bits, matrix.group_size)
    return Linear(matrix.role, matrix.role, -1, *sides, weights)


def parts(linear: Linear, matrix: Matrix, with_values: bool = False) -> Iterator[Linear]:
    """The linear, or what each chip has of it that has as much as `matrix`. Raises UserError where its values would
    have to be divided, too."""
    rows, cols = linear.out_features, linear.in_features
    if (matrix.out_features, matrix.in_features) == (rows, cols):
        yield linear
        return
    if with_values:
        raise UserError(
            f"{linear.name}: this machine looks at weights' values, which are not divided among chips; take one chip"
        )
    for low in range(0, rows, matrix.out_features):
        for left in range(0, cols, matrix.in_features):
            yield _part(linear, low, left, matrix)


def _part(linear: Linear, low: int, left: int, matrix: Matrix) -> Linear:
    rows, cols = matrix.out_features, matrix.in_features
    weights = linear.weights
    whole = weights.mask()
    mask = PackedMask(whole.words[low : low + rows], whole.cols).columns(left, left + cols)
    own = replace(
        weights, nnz=mask.nnz, sha256=f"{weights.sha256} {low}:{low + rows} {left}:{left + cols}", mask=lambda: mask
    )
    return replace(linear, out_features=rows, in_features=cols, weights=own, unpruned=None)
