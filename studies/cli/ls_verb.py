"""prunesim ls"""

from workloads.errors import unknown


def ls(kind: str, /) -> None:
    """List what there is.

    Parameters
    ----------
    kind
        accelerators, methods, quantizers, allocations or models.
    """
    if kind == "accelerators":
        from simulator.accelerators import ACCELERATORS
        from simulator.attention import ATTENTION_MODELS

        lines = [
            (name, f"level {model.level}: {first_line(model.documentation)}") for name, model in ACCELERATORS.items()
        ]
        lines += [
            (name, f"attention (the verb `attention`), level {model.level}: {first_line(model.documentation)}")
            for name, model in ATTENTION_MODELS.items()
        ]
    elif kind == "methods":
        from pruning.methods import METHODS

        lines = [(name, first_line(method.documentation)) for name, method in METHODS.items()]
    elif kind == "quantizers":
        from pruning.quantization import QUANTIZERS

        lines = [(name, first_line(quantizer.documentation)) for name, quantizer in QUANTIZERS.items()]
    elif kind == "allocations":
        from pruning.allocation import ALLOCATORS

        lines = [(name, first_line(allocator.documentation)) for name, allocator in ALLOCATORS.items()]
    elif kind == "models":
        from workloads.catalog import catalog_config, catalog_names

        lines = [(name, catalog_config(name)["model_type"]) for name in catalog_names()]
    else:
        raise unknown("list", kind, ("accelerators", "methods", "quantizers", "allocations", "models"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}")


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]
