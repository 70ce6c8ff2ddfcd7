"""The laws of an accelerator, and the check of one."""

from collections.abc import Iterator

from simulator.accelerators import Accelerator
from validation.conformance import orders, promises, sums, twin_laws, whole_rows
from validation.conformance.design import design_of, quantized_layers, random_layers
from validation.conformance.laws import Law, Result, hold_all

LAWS = (
    Law("every mask runs", sums.runs, sums.edge_layers),
    Law("parts sum to the whole", sums.parts_sum, random_layers, 15),
    Law("MACs are counted once", sums.macs_counted_once, random_layers, 15, sums.counts_actions),
    Law("full mask is the baseline", sums.full_mask_is_baseline, sums.full_layers, 15),
    Law("full mask in closed form", twin_laws.closed_form, sums.full_layers, 15, twin_laws.has_closed_form),
    Law("the twin agrees", twin_laws.agrees, quantized_layers, 15, twin_laws.has_program),
    Law("more zeros", orders.more_zeros_never_slower, random_layers, 15),
    Law("more bandwidth", orders.faster_memory, random_layers, 6, orders.has_bandwidth),
    Law("larger buffers", orders.larger_buffers, random_layers, 6, orders.has_buffers),
    Law("outputs of a lane group", orders.lanes_are_alike, random_layers, 15, orders.states_lanes),
    Law("refusals say the way out", promises.refuses_in_words, promises.small_layers, 1, orders.has_buffers),
    Law("a mask off the pattern", promises.broken_pattern_is_named, promises.pattern_layers, 1, promises.has_pattern),
    Law("geometry says all", promises.geometry_says_all, promises.small_layers),
    Law("the same again", promises.same_again, promises.small_layers),
    Law("whole rows", whole_rows.whole_rows, promises.defaults),
    Law("notes are sentences", promises.notes_are_sentences, promises.its_name),
)


def check_accelerator(accelerator: type[Accelerator] | Accelerator | str) -> Iterator[Result]:
    """Every law in turn."""
    design = design_of(accelerator)
    yield from hold_all(LAWS, design, dict(design.not_promised))
