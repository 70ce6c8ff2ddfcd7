"""Everything that decides the masks and weights of a given model."""

from dataclasses import dataclass

from checkpoints.checkpoint import Checkpoint
from checkpoints.coverage import coverage
from pruning.allocations import Allocation
from pruning.data.calibration import Calibration
from pruning.evidence.needs import Need, check_needs
from pruning.methods import PruningMethod
from pruning.quantizers import Quantization
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.layers import Layer
from workloads.patterns import NofM
from workloads.selectors import EVERYTHING, Selection
from workloads.treatment import Treatment, treatment_of


@dataclass(frozen=True)
class Recipe:
    """allocation None = the same sparsity everywhere, quantization None = float weights. Targets hold
    for the layers that `selection` chooses; `fallback`: see workloads/treatment.py."""

    model_id: str
    method: PruningMethod
    sparsity: float
    rule: str
    pattern: NofM | None = None
    calibration: Calibration | None = None
    seed: int = 0
    allocation: Allocation | None = None
    quantization: Quantization | None = None
    selection: Selection = EVERYTHING
    fallback: str = "refuse"

    @property
    def needs(self) -> frozenset[Need]:
        """What must be gathered for its method and its quantizer (pruning/evidence/needs.py); raises UserError for what nobody can gather."""
        needs = check_needs(self.method.needs, f"method {self.method.name}")
        if self.quantization is not None and not self.quantizes_jointly:
            quantizer = self.quantization.quantizer
            needs |= check_needs(quantizer.needs, f"quantizer {quantizer.name}")
        return needs

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
        return bool(self.needs) or (self.allocation is not None and self.allocation.needs_calibration)

    def treatment(self, layers: list[Layer]) -> Treatment:
        """What every layer of a model gets. Raises NotForThisModel as `treatment_of`."""
        size = self.quantization.group_size if self.quantization is not None else 0
        return treatment_of(layers, self.selection, self.pattern, size, self.fallback)

    def header(self, checkpoint: Checkpoint) -> BundleHeader:
        settings = {**self.method.facts, "rule": "pattern" if self.pattern else self.rule}
        if self.allocation is not None:
            settings["allocation"] = self.allocation.facts
        if self.quantization is not None:
            settings["quantization"] = self.quantization.facts
        if not self.selection.everything:
            settings["only"], settings["skip"] = self.selection.only, self.selection.skip
        if self.fallback != "refuse":
            settings["fallback"] = self.fallback
        promised = self.method.promises(self.pattern)
        if self.pattern is not None and promised is None:
            settings["runs"] = str(self.pattern)
        return BundleHeader(
            model_id=self.model_id,
            method=self.method.name,
            pattern=str(promised) if promised else "unstructured",
            parameters={**settings, "dtype": str(checkpoint.model.dtype).removeprefix("torch.")},
            seed=self.seed,
            target_sparsity=self.sparsity,
            model_config={
                **checkpoint.config.to_dict(),
                "weights_sha256": checkpoint.sha256(),
                "matrices": coverage(checkpoint).facts,
            },
            calibration=self.calibration.facts if self.calibration else None,
            tool_version=__version__,
        )
