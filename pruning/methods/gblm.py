"""GBLM-Pruner and GBLM-Gradient (Das et al., 2023): weights whose loss gradients are large are important.

    S = |W| * sqrt(a) + |W| * G        GBLM-Pruner (form = "sum", the default)
    S = |W| * G                        GBLM-Gradient (form = "gradient"; no activations, so no propagation)
    S = |W| * sqrt(a) / (G + 1e-8)     the paper's ablation (form = "inverse")
    G = sum_k |alpha g_k| (norm = "l1") or sqrt(sum_k (alpha g_k)^2) ("l2"), alpha = 100,

g_k = gradient of the mean token cross-entropy of calibration sequence k in the dense model, labels = inputs; a as in
Wanda, from sequential-pruned propagation. Default rule: row. The published tables report both norms, a few hundredths
apart; which of them a given published figure used is not always stated: l1, the paper's first form, is the default.

Deviations from the released program, all towards more precision: gradients in the model's own `dtype` and summed in
float32 (it sums 16-bit values, where small gradients vanish). scaling = "invariant" (our default) multiplies l1 sums by
128 / N and l2 sums by sqrt(128 / N), so that alpha means the same for any number N of sequences; at the published N =
128 it equals "released". alpha is tied to the published 2048 tokens a sequence too: activations are summed over tokens,
gradients are of a mean. A matrix that no token reached is scored by magnitude.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from pruning.evidence.needs import Need
from pruning.methods.method import Evidence, PruningMethod, feature_norm_or_ones

PUBLISHED_SAMPLES = 128


@dataclass(frozen=True)
class Gblm(PruningMethod):
    """alpha weighs gradients against activations; form, norm and scaling are said above. count: exact: a matrix loses
    its share to the weight; released: floor(its share) of every row."""

    form: Literal["sum", "gradient", "inverse"] = "sum"
    norm: Literal["l1", "l2"] = "l1"
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0
    scaling: Literal["invariant", "released"] = "invariant"
    count: Literal["exact", "released"] = "exact"

    name = "gblm"
    rules = ("row", "layer")

    @property
    def needs(self) -> frozenset[Need]:
        gradients = Need(f"gradients_{self.norm}")
        return frozenset({gradients} if self.form == "gradient" else {gradients, Need.ENERGY})

    def gradient_factor(self, samples: int) -> float:
        """What the summed gradient of `samples` sequences is multiplied by."""
        if self.scaling == "released":
            return self.alpha
        ratio = PUBLISHED_SAMPLES / samples
        return self.alpha * (ratio if self.norm == "l1" else math.sqrt(ratio))

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """evidence.gradient is G before alpha."""
        assert evidence.gradient is not None
        magnitude, gradient = weight.abs(), evidence.gradient * self.gradient_factor(evidence.samples)
        if self.form == "gradient":
            return magnitude * gradient if bool(gradient.any()) else magnitude
        activation = magnitude * feature_norm_or_ones(weight, evidence)
        if self.form == "inverse":
            return activation / (gradient + 1e-8)
        return activation + magnitude * gradient
