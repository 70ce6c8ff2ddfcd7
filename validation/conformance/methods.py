"""The laws of a pruning method, and the check of one, on tiny random models."""

from collections.abc import Iterator

from pruning.methods import PruningMethod, find_method
from validation.conformance import factor_laws, mask_laws, training_laws, trial, unit_laws, weight_laws
from validation.conformance.laws import Law, Result, hold_all
from validation.conformance.trial import Subject, subject_of
from workloads.patterns import FACTORED, SMALLER


def prunes(subject: Subject) -> str:
    return "" if subject.method.prunes else "it prunes nothing"


LAWS = (
    Law("counts are exact", mask_laws.counts_are_exact, trial.rules, 1, prunes),
    Law("N:M runs are exact", mask_laws.counts_are_exact, trial.patterns, 1, prunes),
    Law("sparsity 0 prunes nothing", mask_laws.nothing_at_zero, trial.plain, 1, prunes),
    Law("saved and evaluated as held", weight_laws.saved_as_held, trial.both),
    Law("quantized weights stay on their grids", weight_laws.stay_on_their_grids, trial.quantized),
    Law("the same again", mask_laws.same_again, trial.plain),
    Law("the same from many shards", mask_laws.same_from_shards, trial.plain),
    Law("the same in memory", mask_laws.same_in_memory, trial.plain),
    Law("leaves the model alone", mask_laws.leaves_the_model_alone, trial.plain),
)

OF_UNITS = (
    Law("counts are exact", unit_laws.counts_are_exact, trial.families),
    Law("without its units it gives what it gives with them at zero", unit_laws.smaller_is_masked, trial.families),
    Law("sparsity 0 takes nothing out", unit_laws.nothing_at_zero, trial.plain),
    Law("the order of sequences changes nothing", unit_laws.order_changes_nothing, trial.plain),
    Law("the same again", mask_laws.same_again, trial.plain),
    Law("the same from many shards", mask_laws.same_from_shards, trial.plain),
    Law("the same in memory", mask_laws.same_in_memory, trial.plain),
    Law("a stopped run goes on to the same bytes", unit_laws.stopped_goes_on, trial.plain),
    Law("leaves the model alone", mask_laws.leaves_the_model_alone, trial.plain),
)

OF_FACTORS = (
    Law("ranks come nearest to what is asked", factor_laws.weights_are_nearest, trial.families),
    Law("factors multiply as their matrix", factor_laws.multiplies_as_its_matrix, trial.families),
    Law("saved and evaluated as held", weight_laws.saved_as_held, trial.plain),
    Law("the same again", mask_laws.same_again, trial.plain),
    Law("the same from many shards", mask_laws.same_from_shards, trial.plain),
    Law("the same in memory", mask_laws.same_in_memory, trial.plain),
    Law("a stopped run goes on to the same bytes", unit_laws.stopped_goes_on, trial.plain),
    Law("leaves the model alone", mask_laws.leaves_the_model_alone, trial.plain),
)
OF_TRAINING = (
    *LAWS,
    Law("keeping all changes nothing", training_laws.keeping_all_changes_nothing, trial.plain),
    Law("threads change nothing", training_laws.threads_change_nothing, trial.plain),
    Law("a stopped run goes on to the same bytes", unit_laws.stopped_goes_on, trial.plain),
)
OF = {"": LAWS, SMALLER: OF_UNITS, FACTORED: OF_FACTORS}  # by what a method leaves


def check_method(method: type[PruningMethod] | PruningMethod | str) -> Iterator[Result]:
    """Every law in turn."""
    subject = subject_of(find_method(method) if isinstance(method, str) else method)
    laws = OF_TRAINING if subject.method.trains and not subject.method.leaves else OF[subject.method.leaves]
    yield from hold_all(laws, subject, dict(subject.not_promised))
