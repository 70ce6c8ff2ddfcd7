"""A design beside its twin, and beside what is known of a full mask in closed form."""

import numpy as np

from simulator.accelerators.granular import GranularAccelerator
from simulator.cycles import Infeasible, LayerCycles
from validation.conformance.design import Case, Design, attempt, run, statistics_of, work_of
from validation.conformance.laws import Broken, Skipped, same
from validation.conformance.promises import says_the_way_out
from validation.conformance.sums import BYTES
from validation.twins import engine
from validation.twins.twin import TileRun, Twin


def closed_form(design: Design, case: Case) -> None:
    """Compute cycles of a full mask."""
    twin, machine, layer = twin_of(design), design.roomy(*case.sets), case.layer
    assert twin.full_mask_cycles is not None
    found = run(machine, layer).sparse
    taken = (found.mapping,) if twin.arranged else ()
    expected = twin.full_mask_cycles(machine.spec, layer.rows, layer.cols, layer.tokens, *taken)
    same("compute cycles", found.compute_cycles, expected, "in closed form")


def agrees(design: Design, case: Case) -> None:
    """To the cycle, and for designs made of granules to the byte; the twin's sums are X W^T, each kept weight used once
    a token. What does not fit says what would help."""
    twin, machine = twin_of(design), design.machine(*case.sets)
    kept, weights, inputs = numbers(design, case)
    try:
        found = attempt(machine, case.layer, kept, weights).sparse
    except Infeasible as error:
        says_the_way_out(error.refusal)
        raise Skipped(str(error)) from None
    if isinstance(machine, GranularAccelerator) and twin.run_tile:
        ran: TileRun | engine.TwinResult | int = by_granules(twin, machine, case, kept, weights, inputs, found)
    else:
        assert twin.run_layer is not None
        ran = twin.run_layer(machine.spec, weights, kept, inputs, *((found.mapping,) if twin.arranged else ()))
        same("compute cycles", found.compute_cycles, ran if isinstance(ran, int) else ran.cycles, "of the twin")
    if not isinstance(ran, int):
        products_are_right(ran.outputs, ran.uses, kept, weights, inputs)


def numbers(design: Design, case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kept, weights (rows, cols), and inputs (tokens, cols), integers; odd seeds follow the design's pattern."""
    layer, twin = case.layer, twin_of(design)
    rng, kept = np.random.default_rng(layer.seed), layer.kept()
    if twin.follows and layer.seed % 2:
        kept = twin.follows(kept)
    drawn = rng.integers(-9, 10, kept.shape)
    weights = np.where(kept, np.where(drawn == 0, 3, drawn), 0)
    tokens = design.machine(*case.sets).only_tokens or layer.tokens
    return kept, weights, rng.integers(-9, 10, (tokens, layer.cols))


def by_granules(
    twin: Twin, machine: GranularAccelerator, case: Case, kept: np.ndarray, weights: np.ndarray, inputs: np.ndarray,
    found: LayerCycles,
) -> engine.TwinResult:  # fmt: skip
    granules = machine.granules(statistics_of(machine, kept, weights))
    ran = engine.run_layer(
        twin, machine.spec, weights, kept, inputs, work_of(machine, case.layer, kept), found.mapping, granules.granule,
        granules.stationary, granules.act_reads, granules.token_step,
    )  # fmt: skip
    for name in ("compute_cycles", "cycles", "transfer_cycles", *BYTES):
        same(name.replace("_", " "), getattr(found, name), getattr(ran, name), "of the twin")
    return ran


def products_are_right(
    outputs: np.ndarray, uses: np.ndarray, kept: np.ndarray, weights: np.ndarray, inputs: np.ndarray
) -> None:
    wrong = int((outputs != inputs @ weights.T).sum())
    if wrong:
        raise Broken(f"{wrong} of {outputs.size} sums of the twin are not those of X W^T")
    expected = np.where(kept, len(inputs), 0)
    if not np.array_equal(uses, expected):
        r, c = np.argwhere(uses != expected)[0]
        raise Broken(f"the twin uses weight ({r}, {c}) {uses[r, c]} times, {expected[r, c]} are due")


def twin_of(design: Design) -> Twin:
    assert design.twin is not None
    return design.twin


def has_closed_form(design: Design) -> str:
    return "" if design.twin and design.twin.full_mask_cycles else "no twin gives a full mask's cycles in closed form"


def has_program(design: Design) -> str:
    return "" if design.twin and (design.twin.run_layer or design.twin.run_tile) else "the class states no twin"
