"""What each layer of a model gets: the pattern and the groups asked for, what stands in where they do not divide, or
nothing.

A layer that is not chosen, or whose fallback is "skip", is left dense: it is an entry of the bundle all the same, with
every weight kept and the pattern "dense", so that a whole model's sparsity and speedup count it. Targets (sparsity,
bits, allocations) hold for the layers that are treated."""

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.errors import NotForThisModel, UserError, unknown
from workloads.layers import Layer
from workloads.patterns import NofM
from workloads.selectors import Selection

REFUSE = "refuse"
FALLBACKS = {
    REFUSE: "the model is refused",
    "unstructured": "such a matrix is pruned to the same sparsity without runs, and has one scale a row in place of "
    "groups",
    "skip": "such a matrix is left dense",
}


@dataclass(frozen=True)
class Treatment:
    """Names of layers: `treated`, and of those `loose`, which take no N:M pattern, and `ungrouped`, one scale a row.
    The others stay dense: `unfit` are those that were chosen, but for which something does not divide."""

    treated: frozenset[str]
    loose: frozenset[str] = frozenset()
    ungrouped: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()

    def pattern(self, name: str, asked: NofM | None) -> NofM | None:
        return None if name in self.loose else asked

    def group_size(self, name: str, asked: int) -> int:
        return 0 if name in self.ungrouped else asked

    def words(self, asked: NofM | None, group_size: int) -> list[str]:
        """What the fallback did, one sentence each; empty where everything divides."""
        size = f"`group_size={group_size}`"
        told = [
            (self.loose, f"{asked} does not divide their inputs; pruned unstructured"),
            (self.ungrouped, f"{size} does not divide their inputs; one scale a row"),
            (self.unfit, f"{asked or size} does not divide their inputs; left dense"),
        ]
        return [f"{len(names)} matrices, e.g. {min(names)}: {text}" for names, text in told if names]


def check_fallback(fallback: str, may_not_divide: bool) -> None:
    """Raises UserError for one that is unknown, or that cannot happen: without N:M and groups everything divides."""
    if fallback not in FALLBACKS:
        raise unknown("fallback", fallback, FALLBACKS)
    if fallback != REFUSE and not may_not_divide:
        raise UserError(
            f"`fallback={fallback}` has no meaning without an N:M `pattern` or a `group_size`; leave it out"
        )


def treatment_of(
    layers: Sequence[Layer], selection: Selection, pattern: NofM | None, group_size: int, fallback: str
) -> Treatment:
    """Raises NotForThisModel for a selection that does not match the model, where something does not divide and the
    fallback is "refuse", and where everything would be skipped."""
    chosen = selection.names(layers)
    odd_runs = {layer.name for layer in layers if pattern is not None and layer.in_features % pattern.m}
    odd_groups = {layer.name for layer in layers if group_size and layer.in_features % group_size}
    loose, ungrouped = chosen & odd_runs, chosen & odd_groups
    if fallback == "skip":
        unfit = loose | ungrouped
        if unfit == chosen:
            asked = " and ".join(
                [*([str(pattern)] if loose else []), *([f"groups of {group_size}"] if ungrouped else [])]
            )
            raise NotForThisModel(
                f"{asked} fit none of the {len(chosen)} chosen matrices; `fallback=skip` leaves nothing"
            )
        return Treatment(chosen - unfit, unfit=unfit)
    if fallback == REFUSE and (loose or ungrouped):
        _refuse(layers, loose, pattern, ungrouped, group_size)
    return Treatment(chosen, loose, ungrouped)


def _refuse(
    layers: Sequence[Layer], loose: frozenset[str], pattern: NofM | None, ungrouped: frozenset[str], group_size: int
) -> None:
    layer = next(layer for layer in layers if layer.name in loose | ungrouped)
    if layer.name in loose:
        assert pattern is not None
        pattern.check_divides(layer.in_features, layer.name)
    raise NotForThisModel(
        f"{layer.name}: `group_size={group_size}` does not divide its {layer.in_features} inputs; choose a divisor, 0 "
        "for one scale a row, or a `fallback` (unstructured, skip)"
    )
