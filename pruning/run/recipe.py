"""Everything that decides the masks and weights of a given model."""

from dataclasses import dataclass, fields

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from checkpoints.prunable import refs_left
from pruning.allocations import Allocation
from pruning.component import Component
from pruning.config import PruneConfig, is_setting
from pruning.data.calibration import Calibration
from pruning.evidence.needs import Need, check_needs
from pruning.families import family_of
from pruning.methods import PruningMethod
from pruning.plan import Plan
from pruning.quantizers import Quantization
from pruning.run.base import UNPRUNED, Base
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.cost_curve import Priced
from workloads.errors import NotForThisModel
from workloads.layers import Layer
from workloads.patterns import SMALLER, UNSTRUCTURED, NofM
from workloads.selectors import Selection, what_there_is
from workloads.steps import AFTER
from workloads.treatment import REFUSE, Treatment, treatment_of

# Settings that a header records looked up, or in fields of its own; any other it records as it was given.
LOOKED_UP = frozenset(
    {"method", "sparsity", "pattern", "rule", "set", "bits", "group_size", "quantizer", "allocation", "only", "skip",
     "fallback", "seed", "multiple_of", "after", "plan"}
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What was asked for, looked up and checked. allocation None = the same sparsity everywhere, quantization None =
    float weights. `base`: what it goes on from. Targets hold for the layers that were chosen, of what is left."""

    asked: PruneConfig
    method: PruningMethod
    sparsity: float
    rule: str
    pattern: NofM | None = None
    allocation: Allocation | None = None
    quantization: Quantization | None = None
    model_id: str = ""
    calibration: Calibration | None = None
    base: Base = UNPRUNED
    plan: Plan | None = None
    costs: Priced | None = None

    @property
    def parts(self) -> list[Component]:
        """The code it runs."""
        quantizer = None if self.quantization is None else self.quantization.quantizer
        return [part for part in (self.method, quantizer, self.allocation) if part is not None]

    @property
    def seed(self) -> int:
        return self.asked.seed or 0

    @property
    def multiple_of(self) -> int:
        """Neurons that stay come in multiples of it, of structured methods."""
        return self.asked.multiple_of or 1

    @property
    def fallback(self) -> str:
        return self.asked.fallback or REFUSE

    @property
    def needs(self) -> frozenset[Need]:
        """What must be gathered for its method and its quantizer (pruning/evidence/needs.py). Raises UserError for what
        nobody can gather."""
        needs = check_needs(self.method.needs, f"method {self.method.name}")
        if self.quantization is not None and not self.quantizes_jointly:
            quantizer = self.quantization.quantizer
            needs |= check_needs(quantizer.needs, f"quantizer {quantizer.name}")
        return needs

    @property
    def takes_out(self) -> bool:
        """Whether it makes matrices smaller."""
        return self.method.leaves == SMALLER

    @property
    def quantizes_jointly(self) -> bool:
        """Whether the method puts weights on their grids itself, inside its own optimisation."""
        quantization = self.quantization
        return (
            quantization is not None
            and quantization.quantizer.name in self.method.joint
            and quantization.quantizer.order == "prune-first"
        )

    @property
    def needs_calibration(self) -> bool:
        return (
            bool(self.needs)
            or self.method.trains
            or (self.allocation is not None and self.allocation.needs_calibration)
        )

    def refs(self, checkpoint: OpenModel) -> list[list[LinearRef]]:
        """The prunable matrices of every block in the sizes that the base leaves; before blocks are loaded without
        what it takes out."""
        return refs_left(checkpoint, self.base.removal)

    def treatment(self, layers: list[Layer]) -> Treatment:
        """What every layer of a model gets. Raises NotForThisModel as `treatment_of`, and where the method is for none
        of them or cannot work with one."""
        size = self.quantization.group_size if self.quantization is not None else 0
        taken = [layer for layer in layers if self.method.takes(layer)]
        if not taken:
            raise NotForThisModel(f"{self.method.name} is for none of these matrices: {what_there_is(layers)}")
        selection = self.asked.selection
        planned = [] if self.plan is None else [choice.pattern for choice in self.plan.choices.values()]
        for pattern in (self.pattern, *planned):
            if pattern is not None:
                self.method.check_pattern(pattern)
        if self.plan is not None:
            self.plan.check(taken)
            selection = Selection((",".join(self.plan.choices),))
        try:
            made = treatment_of(taken, selection, self.pattern, size, self.fallback)
        except NotForThisModel as error:
            masks, multiple = self.base.masks, self.pattern.m if self.pattern is not None else size
            if masks is None or not masks.is_smaller or not multiple:
                raise
            raise NotForThisModel(f"{error}; or make {masks.folder} with `multiple_of={multiple}`") from None
        for layer in taken:
            if layer.name in made.treated:
                self.method.check_layer(layer)
        return made

    def header(self, checkpoint: OpenModel) -> BundleHeader:
        settings = {**self.method.facts, "rule": "pattern" if self.pattern else self.rule}
        if self.allocation is not None:
            settings["allocation"] = self.allocation.facts
        if self.quantization is not None:
            settings["quantization"] = self.quantization.facts
        selection = self.asked.selection
        if self.plan is not None:
            settings["plan"] = self.plan.facts
        if self.costs is not None:
            settings["costs"] = self.costs.facts
        if not selection.everything:
            settings["only"], settings["skip"] = selection.only, selection.skip
        if self.fallback != REFUSE:
            settings["fallback"] = self.fallback
        if self.multiple_of > 1:
            settings["multiple_of"] = self.multiple_of
        for each in fields(self.asked):
            value = getattr(self.asked, each.name)
            if is_setting(each) and each.name not in LOOKED_UP and value is not None:
                settings[each.name] = value
        promised = self.method.promises(self.pattern)
        if self.pattern is not None and promised is None:
            settings["runs"] = str(self.pattern)
        method, pattern = self.method.name, self.method.leaves or str(promised or UNSTRUCTURED)
        target = None if self.method.settles or self.plan is not None else self.sparsity
        if self.base.masks is not None:
            before = self.base.masks.header
            settings[AFTER] = self.base.facts
            if not self.method.prunes:  # what it is named after, and what was pruned before
                assert self.quantization is not None
                method, pattern, target = self.quantization.quantizer.name, before.pattern, before.target_sparsity
            method = f"{before.method}+{method}"
        return BundleHeader(
            model_id=self.model_id,
            method=method,
            pattern=pattern,
            parameters={**settings, "dtype": str(checkpoint.dtype).removeprefix("torch.")},
            seed=self.seed,
            target_sparsity=target,
            model_config=family_of(checkpoint).described(checkpoint),
            calibration=self.calibration.facts if self.calibration else None,
            tool_version=__version__,
        )
