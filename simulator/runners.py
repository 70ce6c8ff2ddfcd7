"""What runs whole decoders, by the names of targets: GPUs, and accelerators of linears."""

from collections.abc import Sequence

from simulator.accelerators import Accelerator
from simulator.gpu.layers import GpuTarget
from simulator.gpu.masked_layers import asked_kernel
from simulator.gpu.named import find_gpu, is_gpu
from simulator.inference.arrays import ArrayRunner
from simulator.inference.gpus import GpuRunner
from simulator.inference.masked import masked_by
from simulator.inference.runner import Numbers, Runner
from simulator.machine.spec import settings_text
from simulator.simulate import AcceleratorTarget
from simulator.targets import find_target
from workloads.errors import UserError
from workloads.targets import Target, kinds_text


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
