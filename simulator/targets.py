"""Every target that runs operations here, by name: accelerators of linears and of attention, and GPUs."""

from collections.abc import Sequence
from typing import Protocol

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.vitcod.attention.target import ATTENTION_MODELS, open_attention
from simulator.gpu.layers import open_gpu
from simulator.gpu.named import is_gpu
from simulator.gpu.spec import GPUS
from simulator.machine.files import is_machine_file
from simulator.simulate import AcceleratorTarget, open_target
from simulator.trace import Timeline
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.operations import Operation
from workloads.plugins import installed, is_file_name
from workloads.targets import Gathered, Target

OURS = (*ACCELERATORS, *GPUS, *ATTENTION_MODELS)
DTYPE = "fp16"  # of a GPU's operands, unless another is asked for


class Traceable(Target, Protocol):
    """A target that walks through tiles: one whose `untraceable` is ""."""

    @property
    def clock_mhz(self) -> float: ...

    def timeline(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Timeline:
        """Raises UserError where the operation cannot run."""
        ...


def find_target(name: str, overrides: Sequence[str] = (), dtype: str = "") -> Target:
    """With "key=value" overrides; names as the rooms know them, machine files and designs of others too. Raises
    UserError for unknown names and keys, and for a `dtype` where it is not the user's to choose."""
    if is_gpu(name):
        return open_gpu(name, overrides, dtype or DTYPE)
    if dtype:
        raise UserError(
            f"`dtype` is for GPUs ({', '.join(GPUS)}); {name} has number.weight_bits and number.activation_bits"
        )
    if name in ATTENTION_MODELS:
        return open_attention(name, overrides)
    others = installed("accelerators")
    if name not in ACCELERATORS and name not in others and not is_file_name(name) and not is_machine_file(name):
        raise unknown("accelerator or GPU", name, [*OURS, *others, *installed("gpus")])
    return AcceleratorTarget(open_target(name, overrides))


def known_target(name: str, dtype: str) -> Target | None:
    """Of a row that names it; None where it is none of ours as they are shipped."""
    return find_target(name, (), dtype) if name in OURS else None
