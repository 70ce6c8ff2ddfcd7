"""BESA's settings; what they mean, and what paper and release do, stands in besa.py."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pydantic import Field

from pruning.evidence.needs import Need
from pruning.methods.besa.coefficients import candidates, reach
from pruning.methods.method import PruningMethod
from pruning.training import Normalisation
from workloads.errors import UserError
from workloads.patterns import NofM

NEAR_HALF = 0.1  # how far from 0.5 a target may be for bounded coefficients
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PRODIGYS = ("coefficients", "candidates", "d_coef", "epochs", "beta")
ADAMS = ("step", "rounds", "span", "lanes", "imbalance")


@dataclass(frozen=True)
class BesaSettings(PruningMethod):
    """0 as d_coef means the default for the block's size."""

    granularity: Literal["row", "layer"] = "row"
    ranking: Literal["wanda", "magnitude", "gblm", "sparsegpt", "sparsegpt-released"] = "wanda"
    optimizer: Literal["adam", "prodigy"] = "adam"
    step: Annotated[float, Field(gt=0, le=0.5)] = 0.04
    rounds: Annotated[int, Field(ge=1)] = 4
    span: Annotated[int, Field(ge=1)] = 1
    lanes: Annotated[int, Field(ge=1)] = 1
    imbalance: Annotated[float, Field(ge=0, le=1)] = 0.0
    update: Literal["none", "obs"] = "none"
    reference: Literal["local", "dense"] = "local"
    normalisation: Literal["auto", "token", "channel", "none"] = "auto"
    nm_budget: Literal["fixed", "row"] = "fixed"
    damping: Positive = 0.01
    clip_lr: Positive = 1e-2
    alpha: Positive = 1.0
    beta: Positive = 5.0
    coefficients: Literal["auto", "softmax", "sigmoid"] = "auto"
    d_coef: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    candidates: Annotated[int, Field(ge=2)] = 101
    epochs: Annotated[int, Field(ge=1)] = 1

    @property
    def measure(self) -> Normalisation:
        """How output errors are weighed."""
        if self.normalisation == "auto":
            return "token" if self.optimizer == "adam" else "channel"
        return self.normalisation

    @property
    def together(self) -> int:
        return self.span

    @property
    def takes_costs(self) -> bool:  # type: ignore[override]
        return self.optimizer == "adam"

    @property
    def needs(self) -> frozenset[Need]:
        gathered = {Need.ENERGY, Need.OUTPUTS if self.reference == "local" else Need.DENSE}
        if self.ranking.startswith("sparsegpt") or self.update == "obs":
            gathered.add(Need.HESSIAN)
        return frozenset(gathered | ({Need.GRADIENTS_L1} if self.ranking == "gblm" else set()))

    def check(self, sparsity: float) -> None:
        """Raises UserError for settings of the other optimizer, and a target the coefficients cannot reach."""
        others = ADAMS if self.optimizer == "prodigy" else PRODIGYS
        for each in fields(self):
            if each.name in others and getattr(self, each.name) != each.default:
                owner = "adam" if self.optimizer == "prodigy" else "prodigy"
                raise UserError(
                    f"besa: {each.name} belongs to optimizer={owner}, and optimizer is {self.optimizer}; `set` "
                    f"optimizer={owner}, or leave {each.name} out"
                )
        self.check_reach(sparsity)

    def check_reach(self, sparsity: float) -> None:
        """Raises UserError for a target that bounded coefficients cannot reach."""
        if self.coefficients == "sigmoid" and abs(sparsity - 0.5) >= NEAR_HALF:
            low, high = reach(candidates(self.candidates))
            raise UserError(
                f"besa: coefficients = sigmoid can only express sparsities within [{low:.3f}, {high:.3f}] and is used "
                f"within {NEAR_HALF} of 0.5, not for {sparsity}; `set` coefficients=softmax"
            )

    def promises(self, pattern: NofM | None) -> NofM | None:
        return None if self.nm_budget == "row" else pattern
