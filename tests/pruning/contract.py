"""The recipes every pruning contract is checked with: each method with its variants, each quantizer, each allocator."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tests.pruning.recipes import recipe
from validation.conformance.mask_laws import exact
from validation.conformance.trial import Trial
from workloads.bundle import MaskBundle

SPARSITY = 0.3


@dataclass(frozen=True)
class Case:
    """`exact`: what holds the target exactly: every "row", "layer", "block", the whole "model" or "run" of m inputs."""

    method: str
    exact: str = "row"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        texts = [
            f"{key}={value}" if not isinstance(value, list) else " ".join(value) for key, value in self.settings.items()
        ]
        return " ".join([self.method, *texts])

    @property
    def prunes(self) -> bool:
        return self.method != "none"

    def recipe(self, **more: Any):
        return recipe(self.method, SPARSITY, **(self.settings | more))

    def trial(self, family: str = "llama", dtype: torch.dtype = torch.float32) -> Trial:
        return Trial(self.name, self.recipe(), self.exact if self.prunes else "model", family, dtype)


PLAIN = [
    Case("magnitude", "layer", {"rule": "layer"}),
    Case("magnitude", "row", {"rule": "row"}),
    Case("magnitude", "model", {"rule": "global"}),
    Case("wanda"),
    Case("wanda", "layer", {"rule": "layer"}),
    Case("gblm"),
    Case("gblm", "layer", {"rule": "layer", "norm": "l2", "scaling": "released"}),
    Case("gblm", "row", {"form": "gradient"}),
    Case("gblm", "row", {"form": "inverse"}),
    Case("sparsegpt", "layer"),
    Case("sparsegpt", "layer", {"blocksize": 16}),
    Case("besa", "block", {"optimizer": "prodigy"}),
    Case("besa", "block", {"granularity": "layer", "reference": "dense", "rounds": 1}),
    Case("besa", "block", {"ranking": "sparsegpt", "normalisation": "none", "rounds": 1, "update": "obs"}),
    Case("besa", "block", {"ranking": "gblm", "normalisation": "token", "rounds": 1}),
    Case("wanda-pp", "row", {"rounds": 0}),
    Case("wanda-pp", "row", {"rounds": 1, "samples": 3}),
    Case("dpp", "row", {"epochs": 1}),
    Case("ria", "layer"),
    Case("ria", "row", {"rule": "row", "a": 1.0}),
    Case("unify", "", {"iterations": 4}),
    Case("unify", "", {"block": "4x3", "iterations": 0, "unified": 0.3}),
    Case("besa", "model", {"span": 2, "ranking": "gblm", "rounds": 1}),
]
PATTERNS = [
    Case(method, "run", {"pattern": pattern})
    for method in ("magnitude", "wanda", "ria", "gblm", "sparsegpt", "besa")
    for pattern in ("2:4", "1:4", "5:8")
] + [
    Case("ria", "run", {"pattern": "2:4", "permute": "fold"}),
    Case("wanda-pp", "run", {"pattern": "2:4", "rounds": 1, "samples": 3}),
    Case("dpp", "run", {"pattern": "2:4", "epochs": 1}),
    Case("besa", "layer", {"pattern": "2:4", "nm_budget": "row", "rounds": 1}),
]
QUANTIZED = [
    Case("none", "", {"bits": 3, "quantizer": "rtn"}),
    Case("none", "", {"bits": 4, "quantizer": "gptq", "group_size": 16}),
    Case("none", "", {"bits": 4, "quantizer": "lwc"}),
    Case("none", "", {"bits": 4, "quantizer": "awq", "group_size": 8}),
    Case("magnitude", "row", {"rule": "row", "bits": 4}),
    Case("magnitude", "row", {"rule": "row", "bits": 4, "set": {"quantizer.order": "quantize-first",
    "quantizer.symmetric": True}}),
    Case("wanda", "row", {"bits": 4, "quantizer": "gptq", "set": {"quantizer.act_order": True}}),
    Case("wanda", "row", {"bits": 8, "quantizer": "awq", "group_size": 16}),
    Case("gblm", "row", {"bits": 4, "quantizer": "lwc"}),
    Case("sparsegpt", "layer", {"bits": 4, "group_size": 8}),
    Case("sparsegpt", "layer", {"bits": 2, "quantizer": "rtn"}),
    Case("sparsegpt", "run", {"pattern": "2:4", "bits": 4, "group_size": 16}),
    Case("besa", "block", {"bits": 4, "rounds": 1}),
    Case("besa", "run", {"pattern": "2:4", "bits": 4, "group_size": 8, "rounds": 1}),
    Case("besa", "block", {"bits": 4, "quantizer": "gptq", "rounds": 1}),
    Case("unify", "", {"bits": 4, "group_size": 8, "iterations": 4}),
]  # fmt: skip
ALLOCATED = [
    Case("magnitude", "", {"rule": "row", "allocation": "er"}),
    Case("wanda", "", {"allocation": "owl"}),
    Case("sparsegpt", "", {"allocation": "alpha"}),
    Case("besa", "", {"allocation": "owl", "rounds": 1}),
    Case("wanda", "", {"allocation": "owl", "pattern": "4:8"}),
]
CASES = PLAIN + PATTERNS + QUANTIZED + ALLOCATED
# One of each kind of run, for the costlier contracts.
FEW = [PLAIN[0], PLAIN[2], PLAIN[3], PLAIN[5], PLAIN[7], PLAIN[9], PLAIN[11], PLAIN[12], QUANTIZED[3], QUANTIZED[8],
       QUANTIZED[9], QUANTIZED[12], ALLOCATED[1], PLAIN[16], PLAIN[17], PLAIN[20]]  # fmt: skip


def masks_of(bundle: MaskBundle) -> dict[str, np.ndarray]:
    return {entry.name: mask.to_dense() for entry, mask in bundle}


def assert_exact(case: Case, bundle: MaskBundle) -> None:
    """Exactly as many pruned as asked for (0.3 * n, in whole numbers, rounded down) wherever the case says so."""
    exact(case.trial(), bundle)
