"""Every target that runs operations here, by name: accelerators of linears and of attention, and GPUs."""

from collections.abc import Sequence
from typing import Protocol

from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod.attention.target import ATTENTION_MODELS, is_attention, open_attention
from simulator.gpu.layers import GpuTarget, open_gpu
from simulator.gpu.masked_layers import asked_kernel
from simulator.gpu.named import find_gpu, is_gpu
from simulator.gpu.spec import GPUS
from simulator.inference.arrays import ArrayRunner
from simulator.inference.gpus import GpuRunner
from simulator.inference.masked import masked_by
from simulator.inference.runner import Numbers, Runner
from simulator.machine.files import is_machine_file
from simulator.machine.spec import settings_text
from simulator.simulate import AcceleratorTarget
from simulator.trace import Timeline
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.operations import Operation
from workloads.plugins import installed, is_file_name
from workloads.targets import Gathered, Target, kinds_text

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
        return open_gpu(on, overrides, dtype or DTYPE)
    if dtype:
        raise UserError(
            f"`dtype` is for GPUs ({', '.join(GPUS)}); {on} has number.weight_bits and number.activation_bits"
        )
    if isinstance(on, Accelerator):
        return AcceleratorTarget(on.changed(*overrides))
    if is_attention(on):
        return open_attention(on, overrides)
    others = installed("accelerators")
    if on not in ACCELERATORS and on not in others and not is_file_name(on) and not is_machine_file(on):
        raise unknown("accelerator or GPU", on, [*OURS, *others, *installed("gpus")])
    return AcceleratorTarget(open_accelerator(on, overrides))


def find_runner(on: str | Accelerator, overrides: Sequence[str] = ()) -> Runner:
    """What of that name runs whole decoders. Raises UserError as find_target, and for what runs parts of them alone."""
    if isinstance(on, str) and is_gpu(on):
        kernel, keys = asked_kernel(overrides)
        name, spec = find_gpu(on, keys)
        return GpuRunner(spec, name, settings_text(overrides), masked_by(spec, kernel))
    return runner_of(find_target(on, overrides))[0]


def runner_of(target: Target) -> tuple[Runner, Numbers]:
    """What runs whole decoders on the same machine, and the numbers that the target has. Raises UserError for targets
    that run parts of them alone."""
    if isinstance(target, GpuTarget):
        gpu = GpuRunner(target.spec, target.name, target.settings, masked_by(target.spec, target.kernel))
        return gpu, gpu.numbers(target.dtype)
    if isinstance(target, AcceleratorTarget):
        array = ArrayRunner(target.accelerator)
        return array, array.numbers()
    raise UserError(f"{target.name} runs {kinds_text(target.executes)}, not whole models")


def known_target(name: str, dtype: str) -> Target | None:
    """Of a row that names it; None where it is none of ours as they are shipped."""
    return find_target(name, (), dtype) if name in OURS else None
