"""The bundle that a run goes on from (`after`): its removal, masks and weights are the model that is pruned, and go
into the new bundle, which is relative to the unpruned model again."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from checkpoints.opened import OpenModel
from pruning.applied import refs_of
from pruning.block_job import Decision
from pruning.bundle_values import BIAS, read_weight
from pruning.methods.method import PruningMethod
from workloads.bundle import LayerEntry, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import DENSE, SMALLER, UNSTRUCTURED, WHOLE
from workloads.removal import Cut, Removal
from workloads.steps import as_step


@dataclass(frozen=True)
class Base:
    """`masks` may lack layers that nothing was done to; None: the unpruned model."""

    masks: MaskBundle | None = None

    @property
    def removal(self) -> Removal:
        return Removal() if self.masks is None else self.masks.removal

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it: its hash and how it came to be, with the bundle that it came after in turn."""
        return {} if self.masks is None else {"sha256": self.masks.sha256, **as_step(self.masks.header)}

    @property
    def has_zeros(self) -> bool:
        """Whether it holds masks that prune."""
        return self.masks is not None and any(entry.nnz < entry.layer.n_weights for entry in self.masks.layers)

    def keep(self, name: str) -> torch.Tensor | None:
        """(out, in) bool of what is left, None where every weight is kept."""
        entry = self._entry(name)
        if self.masks is None or entry is None or entry.nnz == entry.layer.n_weights:
            return None
        return torch.from_numpy(self.masks[name].to_dense())

    def within(self, decisions: dict[str, Decision]) -> dict[str, Decision]:
        """What is pruned here stays pruned. Methods that change weights never come after masks (`check_base`)."""
        made = {}
        for name, decision in decisions.items():
            before = self.keep(name)
            made[name] = (
                decision if before is None else replace(decision, keep=decision.keep & before.to(decision.keep))
            )
        return made

    def pattern(self, name: str) -> str:
        """What its mask of a layer follows, where that stays as it is."""
        entry = self._entry(name)
        return UNSTRUCTURED if entry is None or entry.pattern in WHOLE else entry.pattern

    def unpruned(self, name: str) -> Layer | None:
        """The layer before something was taken out of it."""
        entry = self._entry(name)
        return None if entry is None else entry.unpruned

    def carried(self, name: str, decision: Decision) -> Decision:
        """With the weights that are held here, where the run leaves them as they are."""
        if self.masks is None or decision.weight is not None or self._entry(name) is None:
            return decision
        weight = read_weight(self.masks, name)
        return decision if weight is None else replace(decision, weight=weight.masked_fill(~decision.keep.cpu(), 0))

    def bias(self, name: str) -> dict[str, np.ndarray]:
        """{"bias": (out,) float32} where one is held for the layer."""
        if self.masks is None or self._entry(name) is None or BIAS not in self.masks.kinds(name):
            return {}
        return {BIAS: self.masks.values(name)[BIAS]}

    def left_of(self, name: str, cut: Cut | None) -> dict[str, np.ndarray]:
        """The weights and the bias that are held for the layer, without what `cut` takes of it."""
        if self.masks is None or self._entry(name) is None:
            return {}
        values = self.masks.values(name)
        if cut is None:
            return values
        return {
            kind: value[cut.rows] if kind == BIAS else value[cut.rows][:, cut.cols] for kind, value in values.items()
        }

    def begin(self, writer: BundleWriter) -> None:
        """Before a run's first entries: what goes is out of its bundle too."""
        if self.masks is not None and self.masks.is_smaller and not writer.written:
            writer.remove(self.masks.removal)

    def copy(self, writer: BundleWriter, layer: Layer) -> None:
        """A matrix that the run leaves alone."""
        entry = self._entry(layer.name)
        if self.masks is None or entry is None:
            writer.add(layer, PackedMask.dense(*layer.shape), DENSE)
        else:
            values = self.masks.values(layer.name)
            writer.add(layer, self.masks[layer.name], entry.pattern, values=values, unpruned=entry.unpruned)

    def names(self, number: int) -> list[str]:
        """Of all matrices of a block, if something was taken out of the model; else []."""
        if self.masks is None or not self.masks.is_smaller:
            return []
        return [entry.name for entry in self.masks.entries if entry.block == number]

    def gone(self, name: str) -> Layer | None:
        """A matrix that was taken out as a whole."""
        entries = [] if self.masks is None else self.masks.gone
        return next((entry.layer for entry in entries if entry.name == name), None)

    def _entry(self, name: str) -> LayerEntry | None:
        return self.masks.entry(name) if self.masks is not None and name in self.masks else None


UNPRUNED = Base()


def check_base(base: Base, checkpoint: OpenModel, method: PruningMethod) -> None:
    """Reads the whole bundle. Raises UserError if it is damaged, of another model or other weights, or nothing that
    `method` can go on from."""
    masks = base.masks
    if masks is None:
        return
    masks.validate()
    refs = refs_of(checkpoint, masks)
    made_of = masks.header.model_config.get("weights_sha256")
    if made_of is not None and made_of != checkpoint.sha256():
        raise UserError(f"{masks.folder} was made from other weights than those in {checkpoint.folder}; make it anew")
    lacking = [ref.layer.name for block in refs for ref in block if ref.layer.name not in masks]
    if masks.is_smaller and lacking:
        raise UserError(f"{masks.folder} lacks {lacking[0]}, which this model has; was it made for another model?")
    if product := next((entry for entry in masks.layers if entry.factors is not None), None):
        raise UserError(
            f"{masks.folder}: {product.name} is a product of factors, after which nothing comes; prune MODEL"
        )
    quantized = next((entry for entry in masks.layers if entry.weight_bits is not None), None)
    if quantized is not None:
        raise UserError(
            f"{masks.folder}: {quantized.name} has {quantized.weight_bits} bits already; quantize last, `after` a "
            "bundle of floats"
        )
    if base.has_zeros and method.leaves == SMALLER:
        raise UserError(
            f"{masks.folder} holds masks, and {method.name} takes whole units out; units go first, masks come `after` "
            "them"
        )
    if base.has_zeros and method.prunes and not method.scores_alone:
        raise UserError(
            f"{masks.folder} holds masks, and {method.name} cannot keep to them while it makes its own; use a method "
            "that scores weights (magnitude, wanda, ria, gblm), or `method=none` with `bits`"
        )


def check_more(base: Base, treated: frozenset[str], sparsity: float) -> None:
    """Raises UserError where the layers `treated` have more zeros than an unstructured run asks for."""
    if base.masks is None:
        return
    chosen = [entry for entry in base.masks.layers if entry.name in treated]
    weights = sum(entry.layer.n_weights for entry in chosen)
    has = 1 - sum(entry.nnz for entry in chosen) / weights if weights else 0.0
    if has > sparsity + 1e-6:
        raise UserError(
            f"{base.masks.folder}: {has:.1%} of the weights that are left are zero already, `sparsity` asks for "
            f"{sparsity:.1%}; ask for more than there are"
        )
