"""The recipes every pruning contract is checked with: each method with its variants, each quantizer, each allocator."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.pruning.models import recipe
from workloads.bundle import MaskBundle

SPARSITY = 0.3


@dataclass(frozen=True)
class Case:
    """`exact`: what holds the target exactly: every "row", "layer", "block", the whole model ("global") or "run" of m inputs."""

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


PLAIN = [
    Case("magnitude", "layer", {"rule": "layer"}),
    Case("magnitude", "row", {"rule": "row"}),
    Case("magnitude", "global", {"rule": "global"}),
    Case("wanda"),
    Case("wanda", "layer", {"rule": "layer"}),
    Case("gblm"),
    Case("gblm", "layer", {"rule": "layer", "norm": "l2", "scaling": "released"}),
    Case("gblm", "row", {"form": "gradient"}),
    Case("gblm", "row", {"form": "inverse"}),
    Case("sparsegpt", "layer"),
    Case("sparsegpt", "layer", {"blocksize": 16}),
    Case("besa", "block"),
    Case("besa", "block", {"granularity": "layer", "reference": "dense"}),
    Case("besa", "block", {"ranking": "sparsegpt", "normalisation": "none"}),
]
PATTERNS = [
    Case(method, "run", {"pattern": pattern})
    for method in ("magnitude", "wanda", "gblm", "sparsegpt", "besa")
    for pattern in ("2:4", "1:4", "5:8")
] + [Case("besa", "layer", {"pattern": "2:4", "nm_budget": "row"})]
QUANTIZED = [
    Case("none", "", {"bits": 3, "quantizer": "rtn"}),
    Case("none", "", {"bits": 4, "quantizer": "gptq", "group_size": 16}),
    Case("none", "", {"bits": 4, "quantizer": "lwc"}),
    Case("none", "", {"bits": 4, "quantizer": "awq", "group_size": 8}),
    Case("magnitude", "row", {"rule": "row", "bits": 4}),
    Case("magnitude", "row", {"rule": "row", "bits": 4, "sets": ["quantizer.order=quantize-first", "quantizer.symmetric=true"]}),
    Case("wanda", "row", {"bits": 4, "quantizer": "gptq", "sets": ["quantizer.act_order=true"]}),
    Case("wanda", "row", {"bits": 8, "quantizer": "awq", "group_size": 16}),
    Case("gblm", "row", {"bits": 4, "quantizer": "lwc"}),
    Case("sparsegpt", "layer", {"bits": 4, "group_size": 8}),
    Case("sparsegpt", "layer", {"bits": 2, "quantizer": "rtn"}),
    Case("sparsegpt", "run", {"pattern": "2:4", "bits": 4, "group_size": 16}),
    Case("besa", "block", {"bits": 4}),
    Case("besa", "run", {"pattern": "2:4", "bits": 4, "group_size": 8}),
    Case("besa", "block", {"bits": 4, "quantizer": "gptq"}),
]  # fmt: skip
ALLOCATED = [
    Case("magnitude", "", {"rule": "row", "allocation": "er"}),
    Case("wanda", "", {"allocation": "owl"}),
    Case("sparsegpt", "", {"allocation": "alpha"}),
    Case("besa", "", {"allocation": "owl"}),
    Case("wanda", "", {"allocation": "owl", "pattern": "4:8"}),
]
CASES = PLAIN + PATTERNS + QUANTIZED + ALLOCATED
# One of each kind of run, for the costlier contracts.
FEW = [PLAIN[0], PLAIN[2], PLAIN[3], PLAIN[5], PLAIN[7], PLAIN[9], PLAIN[11], PLAIN[12], QUANTIZED[3], QUANTIZED[8],
       QUANTIZED[9], QUANTIZED[12], ALLOCATED[1]]  # fmt: skip


def masks_of(bundle: MaskBundle) -> dict[str, np.ndarray]:
    return {entry.name: mask.to_dense() for entry, mask in bundle}


def assert_exact(case: Case, bundle: MaskBundle) -> None:
    """Exactly as many pruned as asked for (0.3 * n, in whole numbers, rounded down) wherever the case says so."""
    pruned: dict[object, int] = {}
    sizes: dict[object, int] = {}
    for entry, packed in bundle:
        mask = packed.to_dense()
        cols = mask.shape[1]
        place: object = {"layer": entry.name, "block": entry.block}.get(case.exact, "model")
        pruned[place] = pruned.get(place, 0) + int((~mask).sum())
        sizes[place] = sizes.get(place, 0) + mask.size
        if case.exact == "row":
            assert ((~mask).sum(axis=1) == cols * 3 // 10).all(), entry.name
        if case.exact == "run":
            n, m = map(int, case.settings["pattern"].split(":"))
            assert (mask.reshape(-1, m).sum(axis=1) == n).all(), entry.name
    if not case.prunes:
        assert sum(pruned.values()) == 0
    if case.settings.get("nm_budget") == "row":
        assert all(pruned[place] * 2 == size for place, size in sizes.items())
    elif case.exact in ("layer", "block", "global"):
        assert pruned == {place: size * 3 // 10 for place, size in sizes.items()}
