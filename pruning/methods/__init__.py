"""The table of pruning methods: one line each."""

from collections.abc import Sequence

from pruning.methods.besa.besa import Besa
from pruning.methods.dpp import Dpp
from pruning.methods.factorized import BlockDense, BlockShuffle, LowRank
from pruning.methods.gblm import Gblm
from pruning.methods.magnitude import Magnitude
from pruning.methods.method import PruningMethod
from pruning.methods.none import NoPruning
from pruning.methods.ria import Ria
from pruning.methods.sparsegpt import SparseGpt
from pruning.methods.structured.blockpruner import BlockPruner
from pruning.methods.structured.cfsp import Cfsp
from pruning.methods.structured.evolution import Evolution
from pruning.methods.structured.ffr import Ffr
from pruning.methods.structured.flap import Flap
from pruning.methods.structured.magnitude_sp import MagnitudeSp
from pruning.methods.structured.obs_sp import ObsSp
from pruning.methods.structured.policy_gradient import PolicyGradient
from pruning.methods.structured.shortgpt import ShortGpt
from pruning.methods.structured.stamp import Stamp
from pruning.methods.structured.taylor_sp import TaylorSp
from pruning.methods.structured.wanda_sp import WandaSp
from pruning.methods.trained.gradual import Gradual
from pruning.methods.trained.iss_p import IssP
from pruning.methods.unify import Unify
from pruning.methods.wanda import Wanda
from pruning.methods.wanda_pp import WandaPlusPlus
from workloads.errors import UserError, meant
from workloads.plugins import Wanted, find

METHODS: dict[str, type[PruningMethod]] = {
    method.name: method
    for method in (
        Magnitude, Wanda, WandaPlusPlus, Ria, Gblm, SparseGpt, Besa, Dpp, NoPruning, Cfsp, Flap, WandaSp, MagnitudeSp,
        ObsSp, TaylorSp, ShortGpt, BlockPruner, Evolution, PolicyGradient, Stamp, LowRank, BlockDense, BlockShuffle,
        Gradual, IssP, Ffr, Unify,
    )
}  # fmt: skip


def find_method(name: str) -> type[PruningMethod]:
    """One of ours, of an installed package or of a file (workloads/plugins.py). Raises UserError with the nearest known
    name."""
    if name in METHODS:
        return METHODS[name]
    found: type[PruningMethod] = find(Wanted("methods", PruningMethod, METHODS, ("score", "decide", "scores")), name)
    return found


def choose_rule(method: PruningMethod, rule: str | None) -> str:
    """The rule asked for, or the method's default. Raises UserError for one it cannot use."""
    chosen = rule or method.rules[0]
    if chosen not in method.rules:
        rules = f"{meant(chosen, method.rules)}it has: {', '.join(method.rules)}"
        raise UserError(f"{method.name} cannot use the rule {chosen!r}; {rules}")
    return chosen


__all__: Sequence[str] = ["METHODS", "PruningMethod", "choose_rule", "find_method"]
