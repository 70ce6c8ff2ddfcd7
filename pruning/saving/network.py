"""A pruned network that is no language model, as its class loads it.

model.safetensors is the state dict of the module that the family builds, in its own sizes and names; pruned-from.json
says of what it is.

Channels that were taken out are zeros here, as are pruned weights: what multiplies them is zero too, so the outputs are
those of the smaller network."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from checkpoints.network import Network
from checkpoints.network_channels import Left
from checkpoints.recurrent import Recurrent, as_torch
from pruning.applied import apply_bundle
from pruning.saving.dense import STAMP_FILE, check_target
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.files import pretty_json, replacing, write_text

WEIGHTS = "model.safetensors"
FORM = "the module's state dict in its own sizes, zeros where pruned"


def save_network(network: Network, masks: MaskBundle, folder: Path) -> None:
    """Writes what a bundle makes of the network, in the type that it computes in. Raises UserError as `check_target`,
    on foreign masks, and where a matrix without a bias has one now."""
    stamp = stamp_of(network, masks)
    check_target(folder, network.folder, stamp)
    apply_bundle(network, masks)
    network.load_all()
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state_dict_of(network).items()}
    write_text(folder / STAMP_FILE, pretty_json(stamp))
    with replacing(folder / WEIGHTS) as part:
        save_file(tensors, part, metadata={"format": "pt"})


def stamp_of(network: Network, masks: MaskBundle) -> dict[str, str]:
    """What the folder says that it is."""
    return {
        "model": masks.header.model_id, "family": network.family.name, "module": type(network.model).__qualname__,
        "form": FORM, "method": masks.header.method, "masks_sha256": masks.sha256, "weights_sha256": network.sha256(),
        "tool_version": __version__,
    }  # fmt: skip


def state_dict_of(network: Network) -> dict[str, torch.Tensor]:
    """Of the loaded network, by the names of the module that the family built. Raises UserError for a bias that it has
    no place for."""
    own = network.model.state_dict()
    recurrent = {path: each for path, each in network.model.named_modules() if isinstance(each, Recurrent)}
    inside = tuple(f"{path}." for path in recurrent)
    found: dict[str, torch.Tensor] = {}
    for path, module in network.model.named_modules():
        if path in recurrent:
            found |= {f"{path}.{name}": tensor for name, tensor in as_torch(recurrent[path]).items()}
        for name in {**module._parameters, **module._buffers} if not path.startswith(inside) else ():
            key = f"{path}.{name}" if path else name
            if key in own:
                found[key] = _in_place(network, path, name, module, own[key])
    return found


def _in_place(network: Network, path: str, name: str, module: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """A parameter or buffer in the sizes that it had."""
    whole = network.dense_tensor(path, name)
    if whole is None:
        raise UserError(
            f"{network.folder}: {path} had no bias and has one now, for which its module has no place; prune without "
            "biases, or use the masks"
        )
    left = network.channels.left(path, network.removal) if network.removal.cuts else Left()
    if left.features is not None and tensor.ndim:
        made = torch.ones_like(whole) if name == "running_var" else torch.zeros_like(whole)
        made[torch.from_numpy(left.features)] = tensor
        return made
    if left.rows is None or left.cols is None:
        return tensor
    made, rows = torch.zeros_like(whole), torch.from_numpy(np.flatnonzero(left.rows))
    if name == "bias":
        made[rows] = tensor
        return made
    channels = torch.from_numpy(np.flatnonzero(left.cols[:: whole[0, 0].numel()]))
    made[rows[:, None], channels] = tensor
    return made
