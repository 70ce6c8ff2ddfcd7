"""From what was asked to a recipe: names looked up, every setting checked, before a model is opened."""

from dataclasses import replace
from pathlib import Path

from pruning.allocations import Allocation, find_allocation
from pruning.config import PruneConfig
from pruning.methods import METHODS, PruningMethod, choose_rule, find_method
from pruning.methods.structured.method import StructuredMethod
from pruning.plan import Plan
from pruning.quantizers import Quantization, check_bits, find_quantizer
from pruning.run.recipe import Recipe
from workloads.errors import UserError
from workloads.patterns import FACTORED, UNSTRUCTURED, NofM, check_sparsity, parse_pattern
from workloads.removal import NEURON
from workloads.treatment import REFUSE, check_fallback


def make_recipe(asked: PruneConfig) -> Recipe:
    """Without model and calibration. Raises UserError for the first setting that cannot be."""
    if asked.method is None:
        raise UserError(f"say how to prune: `method=wanda`, for example; there are {', '.join(METHODS)}")
    method = find_method(asked.method).with_settings(asked.set_of())
    if (asked.seed or 0) < 0:
        raise UserError(f"`seed` must not be negative, it is {asked.seed}")
    check_structured(method, asked)
    check_factorized(method, asked)
    plan = plan_of(method, asked)
    if plan is not None:
        asked = replace(asked, sparsity=plan.highest, bits=plan.bits)
    pattern, sparsity = target_of(method, asked)
    check_reorders(method, pattern, asked.bits, plan is not None)
    rule = choose_rule(method, asked.rule)
    fallback = asked.fallback or REFUSE
    loose = fallback == "unstructured"
    if pattern is not None and asked.rule is not None and (not loose or rule == "global"):
        raise UserError(f"pattern {pattern} decides within runs of {pattern.m}; `rule={rule}` has no meaning with it")
    if pattern is None or loose:
        method.check(sparsity)
    check_fallback(fallback, pattern is not None or bool(asked.group_size))
    if plan is not None and rule == "global":
        raise UserError("a plan says what each matrix loses, and the rule global compares all; leave `rule` out")
    return Recipe(
        asked, method, sparsity, rule, pattern, allocation_of(method, rule, asked), quantization_of(method, asked),
        plan=plan,
    )  # fmt: skip


def check_reorders(method: PruningMethod, pattern: NofM | None, bits: int | None, planned: bool) -> None:
    """Raises UserError where channels that move have no meaning, or others would not follow them."""
    if not method.reorders:
        return
    if pattern is None and not planned:
        raise UserError(
            f"{method.name}: channels move between runs of N:M; give a `pattern` with `permute`, 2:4 for one"
        )
    if bits is not None and method.changes_weights:
        raise UserError(
            f"{method.name}: quantizers go by inputs where they were before `permute=fold` moved them; quantize in a "
            "second run, `after` the bundle of this one, with `method=none`"
        )


def plan_of(method: PruningMethod, asked: PruneConfig) -> Plan | None:
    """Raises UserError beside what it takes the place of, and for methods that it cannot tell what to prune."""
    if asked.plan is None:
        return None
    for name in ("sparsity", "pattern", "bits", "allocation", "only", "skip", "fallback"):
        if getattr(asked, name) not in (None, (), UNSTRUCTURED, REFUSE):
            raise UserError(f"a `plan` says what each matrix gets; leave `{name}` out")
    if not method.prunes or method.leaves or method.settles:
        raise UserError(f"a `plan` is of masks, and {method.name} makes none; choose a method that scores weights")
    return Plan.read(Path(asked.plan))


def check_structured(method: PruningMethod, asked: PruneConfig) -> None:
    """Raises UserError for settings that structured methods do not have, and for one that only they have."""
    if not isinstance(method, StructuredMethod):
        if asked.multiple_of is not None:
            raise UserError(f"`multiple_of` is for structured methods; {method.name} makes no matrix smaller")
        return
    if asked.multiple_of is not None and asked.multiple_of < 1:
        raise UserError(f"`multiple_of` must be at least 1, it is {asked.multiple_of}")
    if asked.multiple_of is not None and NEURON not in method.kinds:
        raise UserError(f"`multiple_of` is of FFN neurons, and {method.name} takes {_taken(method)} out; leave it out")
    for name in ("pattern", "bits", "group_size", "quantizer", "allocation", "only", "skip", "fallback"):
        if getattr(asked, name) not in (None, (), UNSTRUCTURED, REFUSE):
            raise UserError(
                f"{method.name} takes whole units out and has no `{name}`; give it to a second run, `after` the bundle "
                f"of this one"
            )


def _taken(method: StructuredMethod) -> str:
    return "only kv groups" if method.kinds else "whole blocks or sub-layers"


def check_factorized(method: PruningMethod, asked: PruneConfig) -> None:
    """Raises UserError for settings that have no meaning for factors."""
    if method.leaves != FACTORED:
        return
    for name in ("pattern", "bits", "group_size", "quantizer", "fallback", "after"):
        if getattr(asked, name) not in (None, UNSTRUCTURED, REFUSE):
            raise UserError(f"{method.name} makes dense factors and has no `{name}`; leave it out")


def target_of(method: PruningMethod, asked: PruneConfig) -> tuple[NofM | None, float]:
    """(N:M or None, sparsity)."""
    if method.settles:
        if asked.sparsity is not None:
            raise UserError(f"{method.name}: its settings say how much goes; leave one of them and `sparsity` out")
        return None, 0.0
    if method.prunes:
        if asked.sparsity is None and method.leaves == FACTORED:
            if zero := next((key for key, value in (asked.set or {}).items() if value == 0 and "rank" in key), ""):
                raise UserError(
                    f"{method.name}: {zero} = 0 leaves it to the sparsity how much goes; give `sparsity=0.5`, or a "
                    f"{zero} of at least 1"
                )
            raise UserError(
                f"say how much goes: `sparsity=0.5`, or a setting of {method.name} (prunesim show {method.name})"
            )
        return sparsity_of(asked.pattern or UNSTRUCTURED, asked.sparsity)
    if asked.sparsity or asked.pattern not in (None, UNSTRUCTURED):
        raise UserError(
            f"method {method.name} prunes nothing; leave `sparsity` and `pattern` out, or choose another method"
        )
    if asked.bits is None:
        raise UserError(f"method {method.name} prunes nothing; say how to quantize: `bits=4`")
    return None, 0.0


def sparsity_of(pattern: str, sparsity: float | None) -> tuple[NofM | None, float]:
    """(N:M or None, sparsity). Raises UserError if none is given or N:M and the sparsity contradict each other."""
    nofm = parse_pattern(pattern)
    if nofm is None:
        if sparsity is None:
            raise UserError("say how much to prune: `sparsity=0.5`, or an N:M `pattern`")
        return None, check_sparsity(sparsity)
    if sparsity is not None and abs(check_sparsity(sparsity) - nofm.sparsity) > 1e-9:
        raise UserError(f"pattern {nofm} prunes exactly {nofm.sparsity}, not {sparsity}; leave `sparsity` out")
    return nofm, nofm.sparsity


def quantization_of(method: PruningMethod, asked: PruneConfig) -> Quantization | None:
    values = asked.set_of("quantizer")
    if asked.bits is None:
        given = [f"`{name}`" for name in ("quantizer", "group_size") if getattr(asked, name) is not None]
        if given or values:
            what = given[0] if given else "`set` quantizer.KEY"
            raise UserError(f"{what} has no meaning without `bits`: say how many, for example `bits=4`")
        return None
    check_bits(asked.bits, asked.group_size or 0)
    quantizer = find_quantizer(asked.quantizer or method.default_quantizer).with_settings(values)
    if method.changes_weights and quantizer.order == "quantize-first":
        raise UserError(f"{method.name} changes weights, quantize-first would lose that; use order=prune-first")
    return Quantization(quantizer, asked.bits, asked.group_size or 0)


def allocation_of(method: PruningMethod, rule: str, asked: PruneConfig) -> Allocation | None:
    values = asked.set_of("allocation")
    if asked.allocation is None:
        if values:
            raise UserError("`set` allocation.KEY has no meaning without `allocation`: say which, for example owl")
        return None
    allocation = find_allocation(asked.allocation)
    if not method.prunes or method.settles or rule == "global":
        what = f"the rule {rule}" if rule == "global" else f"method {method.name}"
        raise UserError(f"{what} leaves nothing to allocate; leave `allocation` out")
    return allocation.with_settings(values)
