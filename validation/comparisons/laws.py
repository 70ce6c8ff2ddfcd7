"""The laws of validation/conformance as comparisons: what every accelerator and every pruning method must obey."""

from collections.abc import Iterable

from validation.comparison import Comparison, NotRun, Table, table
from validation.conformance.laws import Result
from workloads.errors import UserError

SOURCE = "laws"
SAYS = (
    "Laws that any design here obeys, on small random layers; `prunesim check {name}` holds them again, and those of a "
    "design of your own. A law that a design does not promise has its reason."
)


def of_accelerator(name: str) -> Comparison:
    from validation.conformance.accelerators import check_accelerator

    results = list(check_accelerator(name))
    return Comparison(name, SOURCE, "own rule", errors_of(results), SAYS.format(name=name), [_table(results)])


def of_methods() -> Comparison | NotRun:
    """A table for methods of the same laws: law by law, what came of it."""
    try:
        from pruning.methods import METHODS
        from validation.conformance.methods import check_method
    except (ImportError, UserError):
        return NotRun("pruning methods", SOURCE, "own rule", "torch and transformers are not installed")
    by_method = {name: {each.law: each for each in check_method(name)} for name in METHODS}
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, found in by_method.items():
        kinds.setdefault(tuple(found), []).append(name)
    tables = [
        table(("law", *names), [(law, *(by_method[name][law].status for name in names)) for law in laws])
        for laws, names in kinds.items()
    ]
    results = [each for found in by_method.values() for each in found.values()]
    says = (
        "On tiny random models with tied weights and biases, transposed storage and experts, float and quantized; "
        "`prunesim check wanda` holds them again, and those of a method of your own. Against other programs: scores, "
        "masks and weights of each method are compared in tests/pruning with slow programs written from the papers."
    )
    return Comparison("pruning methods", SOURCE, "own rule", errors_of(results), says, tables)


def errors_of(results: Iterable[Result]) -> tuple[float, ...]:
    """0 for a law that holds, infinite for one that does not; those that could not be checked are no cases."""
    return tuple(float("inf") if each.failed else 0.0 for each in results if each.status in ("passed", "FAILED"))


def _table(results: Iterable[Result]) -> Table:
    return table(("law", "held", "cases, or why not"), [(each.law, each.status, each.detail) for each in results])
