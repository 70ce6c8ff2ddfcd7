"""Every target that runs operations here, by name: accelerators of linears and of attention, and GPUs.

What only some of them need is imported with them."""

from collections.abc import Sequence
from typing import Protocol

from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS, is_attention
from simulator.gpu.named import is_gpu
from simulator.gpu.spec import GPUS
from simulator.machine.files import is_machine_file
from simulator.simulate import AcceleratorTarget
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


def find_target(on: str | Accelerator, overrides: Sequence[str] = (), dtype: str = "") -> Target:
    """With "key=value" overrides: by a name as the rooms know it, a machine file's or a design's of others, or of a
    design that is made. Raises UserError for unknown names and keys, and for a `dtype` where it is not the user's to
    choose."""
    if isinstance(on, str) and is_gpu(on):
        from simulator.gpu.layers import open_gpu

        return open_gpu(on, overrides, dtype or DTYPE)
    if dtype:
        raise UserError(
            f"`dtype` is for GPUs ({', '.join(GPUS)}); {on} has number.weight_bits and number.activation_bits"
        )
    if isinstance(on, Accelerator):
        return AcceleratorTarget(on.changed(*overrides))
    if is_attention(on):
        from simulator.accelerators.vitcod.attention.target import open_attention

        return open_attention(on, overrides)
    others = installed("accelerators")
    if on not in ACCELERATORS and on not in others and not is_file_name(on) and not is_machine_file(on):
        raise unknown("accelerator or GPU", on, [*OURS, *others, *installed("gpus")])
    return AcceleratorTarget(open_accelerator(on, overrides))


def known_target(name: str, dtype: str) -> Target | None:
    """Of a row that names it; None where it is none of ours as they are shipped."""
    return find_target(name, (), dtype) if name in OURS else None
