"""Weight gradients of a network that is no language model: of its family's `loss` of the outputs, which needs no labels
(docs/networks.md). The whole network is in memory, so that it is differentiated at once, a sample at a time; sums and
files are those of gradients.py.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from checkpoints.discovery import LinearRef
from pruning.evidence.gradients import add_to, finished, gradient_file, loss_scale, no_sums
from pruning.forward.hidden_states import Progress, write_tensors
from pruning.forward.network_walk import NetworkWalk
from pruning.parallel import ordered_map
from workloads.errors import NotForThisModel


def write_network_gradients(
    model: NetworkWalk, refs: list[list[LinearRef]], samples: torch.Tensor, which: Sequence[str], folder: Path,
    progress: Progress,
) -> None:  # fmt: skip
    """Writes one gradient file a unit, the first one last, unless that is there already. Raises NotForThisModel for a
    loss without a gradient, UserError for gradients that are not finite."""
    if gradient_file(folder, 0).exists():
        return
    network, scale = model.checkpoint, loss_scale(model)
    network.load_all()
    places = [list(dict.fromkeys((ref.module_path, ref.parameter) for ref in unit)) for unit in refs]
    parameters = [
        getattr(block.get_submodule(path), name).requires_grad_()
        for block, unit in zip(network.blocks, places, strict=True)
        for path, name in unit
    ]

    def task(sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = sample = sample.to(device=network.device, dtype=network.dtype)
        with torch.enable_grad():
            for unit in network.blocks:
                states = unit(states)
            loss = network.family.loss(states.float(), sample)
            if not loss.requires_grad:
                raise NotForThisModel(
                    f"{network.folder}: the loss of its outputs has no gradient; give its family a `loss(output, "
                    "samples)` that has one, or use another method"
                )
            return torch.autograd.grad(loss * scale, parameters, materialize_grads=True)

    sums = [no_sums(unit, which, network.device) for unit in refs]
    for number, gradients in enumerate(ordered_map(task, samples.split(1), large=True)):
        progress("gradients", number, len(samples))
        rest = iter(gradients)
        for own, unit, where in zip(sums, refs, places, strict=True):
            add_to(own, unit, which, {place: next(rest) for place in where}, scale)
    for parameter in parameters:
        parameter.requires_grad_(False)
    for number in reversed(range(len(refs))):
        write_tensors(gradient_file(folder, number), finished(model, sums[number]))
