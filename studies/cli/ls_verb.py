"""prunesim ls"""

from typing import TYPE_CHECKING

from studies.kinds import LISTS
from workloads.errors import library_missing, unknown

if TYPE_CHECKING:
    from simulator.gpu import GpuSpec


def ls(kind: str = "", /) -> None:
    """List what there is.

    Parameters
    ----------
    kind
        accelerators, gpus, records (measured times that ship), methods, quantizers, allocations, families (of networks
        that are no language models) or models; all of them unless given.
    """
    for number, name in enumerate([kind] if kind else LISTS):
        if not kind:
            print(f"{chr(10) if number else ''}{name}:")
        try:
            lines = [*lines_of(name), *lines_of_packages(name)]
        except ModuleNotFoundError as error:
            if kind or (missing := library_missing(error)) is None:
                raise
            print(missing)
            continue
        width = max(len(entry) for entry, _ in lines)
        for entry, text in lines:
            print(f"{entry:<{width}}  {text}")


def lines_of(kind: str) -> list[tuple[str, str]]:
    """(name, what it is). Raises UserError for an unknown kind."""
    if kind == "accelerators":
        from simulator.accelerators import ACCELERATORS
        from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
        from simulator.accelerators.vitcod.attention.target import AttentionTarget
        from simulator.simulate import AcceleratorTarget
        from workloads.targets import kinds_text

        lines = []
        for table, target in ((ACCELERATORS, AcceleratorTarget), (ATTENTION_MODELS, AttentionTarget)):
            runs = f"runs {kinds_text(target.executes)}"
            lines += [
                (name, f"{runs}, level {model.level}: {first_line(model.documentation)}")
                for name, model in table.items()
            ]
    elif kind == "gpus":
        from simulator.gpu import GPUS, load_gpu

        lines = [(name, gpu_line(load_gpu(name))) for name in GPUS]
    elif kind == "records":
        from measurement.published import names
        from studies import published_tables
        from studies.records import summary

        lines = [(name, summary(name)) for name in names()]
        lines += [(name, published_tables.summary(name)) for name in published_tables.TABLES]
    elif kind == "methods":
        from pruning.methods import METHODS

        lines = [(name, first_line(method.documentation())) for name, method in METHODS.items()]
    elif kind == "quantizers":
        from pruning.quantizers import QUANTIZERS

        lines = [(name, first_line(quantizer.documentation())) for name, quantizer in QUANTIZERS.items()]
    elif kind == "allocations":
        from pruning.allocations import ALLOCATIONS

        lines = [(name, first_line(allocation.documentation())) for name, allocation in ALLOCATIONS.items()]
    elif kind == "families":
        from pruning.families import FAMILIES

        lines = [(name, first_line(family.documentation())) for name, family in FAMILIES.items()]
    elif kind == "models":
        from checkpoints.catalog import catalog_config, catalog_names

        lines = [(name, catalog_config(name)["model_type"]) for name in catalog_names()]
    else:
        raise unknown("list", kind, LISTS)
    return lines


def lines_of_packages(kind: str) -> list[tuple[str, str]]:
    """What installed packages add, by what they say of it: nothing of theirs is run."""
    from workloads.plugins import installed

    added = installed(kind).values()
    return [(point.name, f"of the package {point.dist.name if point.dist else '?'}: {point.value}") for point in added]


def gpu_line(spec: "GpuSpec") -> str:
    from simulator.gpu.spec import Precision

    types = {"fp16": "fp16 bf16", "int8": "int8", "fp8": "fp8"}
    known = [text for name, text in types.items() if isinstance(getattr(spec, name), Precision)]
    chip, memory = spec.chip, spec.memory
    sizes = f"{chip.sms} SMs at {chip.clock_mhz:g} MHz, {memory.bandwidth_gbps:g} GB/s, {spec.power.limit_w:g} W"
    return f"{sizes}; {' '.join(known)}"


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]
