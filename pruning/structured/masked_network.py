"""How far a network that is no language model is from its unpruned self when some channels are silent: what methods
that judge sets of units by the whole model go by (as masked_model.py of language models).

The loss is the family's own distance of the outputs, divided by the mean distance between the unpruned outputs of one
sample and the next, so that it is 0 of the network itself and about 1 where all it says of its samples is lost,
whatever its outputs measure. Silent channels are columns of zeros in the matrix that reads them; where they are filled
in, their columns go to the others. Sets are tried one after the other, each on all samples at once.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from checkpoints.network import Network
from checkpoints.network_matrices import Convolution, NetworkRef
from pruning.forward.hidden_states import BATCH_SAMPLES
from pruning.forward.network_outputs import differences, through
from pruning.parallel import ordered_map
from pruning.structured.judge import Fill, Kept, Note
from pruning.structured.units import UnitGroup

Through = Callable[[NetworkRef, torch.Tensor], torch.Tensor]


class MaskedNetwork:
    """A context, as MaskedModel; `samples` (samples, ...) are those whose outputs say what a distance of 1 is."""

    def __init__(self, network: Network, groups: Iterable[UnitGroup], samples: torch.Tensor):
        self._network, self._samples = network, samples
        self._groups = {group.key: group for group in groups}
        self._hooks: list[RemovableHandle] = []
        self._own = threading.local()  # through: by the keys of groups, in a forward pass that is gated or watched
        self._scale = 1.0
        self._known: tuple[torch.Tensor, torch.Tensor] | None = None  # the samples of the last losses, their outputs

    def __enter__(self) -> "MaskedNetwork":
        self._network.load_all()
        for key, group in self._groups.items():
            module = cast(NetworkRef, group.output).module
            self._hooks.append(module.register_forward_pre_hook(self._hook(key)))
        self._scale = differences(self._network.family.distance, self._outputs(self._samples))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._known = [], None

    @torch.no_grad()
    def losses(self, sets: Sequence[Kept], samples: torch.Tensor, fill: Fill | None = None) -> list[float]:
        dense, found = self._dense(samples), []
        for kept in sets:
            with self._silenced(kept, fill):
                outputs = self._outputs(samples)
            each = [float(self._apart(*pair)) for pair in zip(outputs.split(1), dense.split(1), strict=True)]
            found.append(math.fsum(each) / len(samples))
        return found

    def apart(self, samples: torch.Tensor, gates: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """As of `Judge`: the loss."""

        def gated(key: str) -> Through:
            gate, group = gates[key], self._groups[key]

            def of(ref: NetworkRef, inputs: torch.Tensor) -> torch.Tensor:
                if isinstance(ref.module, Convolution):
                    return inputs * gate.to(inputs).reshape(-1, *[1] * (inputs.ndim - 2))
                return inputs * gate[torch.from_numpy(group.columns)].to(inputs)

            return of

        with torch.no_grad():
            dense = through(self._network, samples)
        with self._going({key: gated(key) for key in gates}):
            own = through(self._network, samples)
        return (self._apart(own, dense) / len(samples)).cpu()

    @torch.no_grad()
    def watch(self, sample: torch.Tensor, note: Note) -> None:
        def seen(key: str) -> Through:
            def of(ref: NetworkRef, inputs: torch.Tensor) -> torch.Tensor:
                note(key, ref.inputs(inputs).reshape(-1, ref.layer.in_features))
                return inputs

            return of

        with self._going({key: seen(key) for key in self._groups}):
            through(self._network, sample)

    def block(self, number: int) -> nn.Module:
        return self._network.blocks[number]

    def _apart(self, outputs: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Summed over the samples."""
        return self._network.family.distance(outputs.float(), dense.float()) / self._scale

    def _outputs(self, samples: torch.Tensor) -> torch.Tensor:
        pieces = samples.split(BATCH_SAMPLES)
        return torch.cat(list(ordered_map(lambda piece: self._network.run(piece).cpu(), pieces)))

    def _dense(self, samples: torch.Tensor) -> torch.Tensor:
        """Searches ask for the same samples again and again."""
        if self._known is None or self._known[0] is not samples:
            self._known = samples, self._outputs(samples)
        return self._known[1]

    @contextmanager
    def _silenced(self, kept: Kept, fill: Fill | None):
        """Within it the matrices that read silent units are without them."""
        before: list[tuple[torch.Tensor, torch.Tensor]] = []
        try:
            for key, stays in kept.items():
                matrix, columns = self._matrix(key), torch.from_numpy(stays[self._groups[key].columns])
                if bool(columns.all()):
                    continue
                before.append((matrix, matrix.clone()))
                if fill is not None and bool(columns.any()):
                    matrix[:, columns] += matrix[:, ~columns] @ fill(key, stays).to(matrix)
                matrix[:, ~columns] = 0
            yield
        finally:
            for matrix, own in reversed(before):
                matrix.copy_(own)

    def _matrix(self, key: str) -> torch.Tensor:
        group = self._groups[key]
        return group.output.matrix(self.block(group.block))

    @contextmanager
    def _going(self, by_key: Mapping[str, Through]):
        self._own.through = by_key
        try:
            yield
        finally:
            self._own.through = {}

    def _hook(self, key: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...] | None]:
        ref = cast(NetworkRef, self._groups[key].output)

        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            made = getattr(self._own, "through", {}).get(key)
            return None if made is None else (made(ref, args[0]), *args[1:])

        return hook
