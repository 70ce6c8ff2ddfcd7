"""What masks from elsewhere say about themselves, before any of them is believed: how much is pruned, whether they are
N:M, and whether anything tells 1 = kept from 1 = pruned, or rows from columns."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from workloads import bits
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import NofM, Runs

DENSE_BELOW = 0.001  # share of zeros below which a source holds no pruning: random weights hold a few
_SQUARES = 4  # square layers that are also looked at along their outputs


@dataclass(frozen=True)
class Facts:
    """Of one mask. `told`: its source says what is kept; `across`: the runs along the outputs, of a few square masks;
    `fits`: whether it follows the pattern that the user claims."""

    layer: Layer
    runs: Runs
    told: bool
    across: Runs | None = None
    fits: bool = True

    @property
    def dense(self) -> bool:
        """Whether it prunes nothing: a layer that was left alone."""
        return self.runs.kept == self.runs.weights


@dataclass
class Survey:
    """Facts of all masks, in the order they came in."""

    claimed: NofM | None = None
    facts: list[Facts] = field(default_factory=list)

    def add(self, layer: Layer, mask: PackedMask, told: bool) -> None:
        runs = runs_of(mask)
        squares = sum(fact.across is not None for fact in self.facts)
        turned = mask.rows == mask.cols and not told and squares < _SQUARES and runs.pattern() is None
        fits = self.claimed is None or mask.follows(self.claimed.n, self.claimed.m)
        self.facts.append(Facts(layer, runs, told, runs_of(mask.transposed()) if turned else None, fits))

    @property
    def sparsity(self) -> float:
        return 1 - sum(f.runs.kept for f in self.facts) / sum(f.runs.weights for f in self.facts)

    @property
    def treated(self) -> list[Facts]:
        """All but those that were left dense; all where nothing is pruned."""
        return [fact for fact in self.facts if not fact.dense] or self.facts

    @property
    def treated_sparsity(self) -> float:
        return 1 - sum(f.runs.kept for f in self.treated) / sum(f.runs.weights for f in self.treated)

    @property
    def told(self) -> bool:
        return all(fact.told for fact in self.facts)

    def check_claim(self, where: str) -> None:
        """Raises UserError where a mask does not follow the pattern that was claimed."""
        wrong = [fact.layer.name for fact in self.treated if not fact.fits]
        if wrong:
            raise UserError(
                f"{where}: {len(wrong)} of {len(self.facts)} masks do not follow {self.claimed}, the first is "
                f"{wrong[0]}; leave `pattern` out to find out what they follow"
            )

    def pattern(self) -> NofM | None:
        """The N:M of all masks that prune; None where they have none in common."""
        return common(fact.runs for fact in self.treated)

    def complement_pattern(self) -> NofM | None:
        """The N:M of all that prune, with kept and pruned exchanged."""
        return common(fact.runs.complement() for fact in self.treated)

    def pattern_of(self, fact: Facts) -> NofM | None:
        """The N:M of one mask: that of all where there is one, else its own."""
        return self.pattern() or fact.runs.pattern()

    def across(self) -> NofM | None:
        """An N:M along the outputs of the square masks that were looked at, which have none along their inputs."""
        looked = [fact.across for fact in self.facts if fact.across is not None]
        return common(looked) if looked else None


def runs_of(mask: PackedMask) -> Runs:
    return Runs.of(bits.run_extremes(mask.words, mask.cols), mask.cols, mask.nnz, mask.rows * mask.cols)


def common(several: Iterable[Runs]) -> NofM | None:
    """The N:M that all follow and that all together fill."""
    total: Runs | None = None
    for runs in several:
        total = runs if total is None else total + runs
    return None if total is None else total.pattern()


def check_pruned(survey: Survey, where: str, allow_dense: bool) -> None:
    """Raises UserError where nothing is pruned, unless that is allowed, or everything is."""
    kept, weights = (sum(getattr(f.runs, name) for f in survey.facts) for name in ("kept", "weights"))
    flipped = "" if survey.told else "; if 1 stands for pruned, say `pruned_is_one=True`"
    if kept == 0:
        raise UserError(f"{where}: all {weights:,} weights are pruned{flipped}")
    if survey.sparsity < DENSE_BELOW and not allow_dense:
        what = "a dense checkpoint holds no masks" if survey.told else "masks that keep everything prune nothing"
        other = "" if survey.told or kept < weights else flipped
        raise UserError(
            f"{where}: {weights - kept:,} of {weights:,} weights are zero, so nothing is pruned: {what}; give what was "
            f"made by pruning, or say `allow_dense=True`{other}"
        )


def polarity(survey: Survey) -> str:
    """What the masks themselves say about 1 = kept: "kept", "pruned" or "open".

    N:M tells where it holds one way only: runs of four in which two are kept at most, some of them fewer, prune more
    than two somewhere. Where every run has just N, both ways are patterns, and that which keeps the smaller part is
    meant; halves (2:4) tell nothing. A density tells nothing at all."""
    one = survey.pattern()
    other = survey.complement_pattern()
    if one is None and other is None:
        return "open"
    if one is None or other is None:
        return "pruned" if one is None else "kept"
    if 2 * one.n == one.m and 2 * other.n == other.m:
        return "open"
    return "kept" if one.sparsity > other.sparsity else "pruned"
