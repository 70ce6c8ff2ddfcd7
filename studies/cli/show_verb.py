"""prunesim show"""

import dataclasses
import json
import typing

from workloads.errors import unknown

if typing.TYPE_CHECKING:
    from pruning.component import Component

ENERGY = "energy"


def show(name: str = "", /) -> None:
    """Describe an accelerator, GPU, method, quantizer or allocation (what it does, its keys for --set), a model (its config), or
    energy (the constants of energy and area, with their sources). Without a name: what there is, as `ls`."""
    if not name:
        from studies.cli.ls_verb import ls

        ls()
        return
    from checkpoints.catalog import catalog_config, catalog_names
    from simulator.accelerators import ACCELERATORS
    from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
    from simulator.gpu import GPUS

    if name in GPUS:
        show_gpu(name)
        return
    if name in ACCELERATORS or name in ATTENTION_MODELS:
        show_accelerator(name)
        return
    if name == ENERGY:
        show_energy()
        return
    if name in catalog_names():
        print(json.dumps(catalog_config(name), indent=1))
        return
    from pruning.allocations import ALLOCATIONS
    from pruning.methods import METHODS
    from pruning.quantizers import QUANTIZERS

    if name in METHODS:
        method = METHODS[name]
        print(method.documentation())
        print(f"\nRules (--rule, the first is the default): {', '.join(method.rules)}")
        show_parameters(method, "")
        quantizers = ", ".join(f"{q} (together with pruning)" if q in method.joint else q for q in QUANTIZERS)
        print(f"Quantizers (--bits N --quantizer, default {method.default_quantizer}): {quantizers}")
    elif name in QUANTIZERS:
        print(QUANTIZERS[name].documentation())
        show_parameters(QUANTIZERS[name], "quantizer.")
    elif name in ALLOCATIONS:
        print(ALLOCATIONS[name].documentation())
        show_parameters(ALLOCATIONS[name], "allocation.")
    else:
        raise unknown(
            "name",
            name,
            [*ACCELERATORS, *GPUS, *ATTENTION_MODELS, ENERGY, *METHODS, *QUANTIZERS, *ALLOCATIONS, *catalog_names()],
        )


def show_parameters(kind: "type[Component]", prefix: str) -> None:
    """Keys with their defaults and, where they are named, their choices."""
    fields = dataclasses.fields(kind)
    hints = typing.get_type_hints(kind)
    print("\nParameters (--set key=value):" + ("" if fields else " none"))
    for field in fields:
        choices = typing.get_args(hints[field.name]) if typing.get_origin(hints[field.name]) is typing.Literal else ()
        print(
            f"  {prefix}{field.name} = {json.dumps(field.default)}" + (f"    {' | '.join(choices)}" if choices else "")
        )
    if fields and kind.about_settings():
        print("\n" + kind.about_settings())


def show_accelerator(name: str) -> None:
    from simulator.accelerators import ACCELERATORS
    from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
    from simulator.machine.spec import preset_path

    model = ACCELERATORS[name] if name in ACCELERATORS else ATTENTION_MODELS[name]
    print(model.documentation.strip())
    print("\nNotes, as reports print them:")
    for note in model.notes:
        print(f"  - {note}")
    verb = "simulate" if name in ACCELERATORS else "attention"
    print(
        f"\nUsed by `prunesim {verb} --on {name}`. Level: {model.level}. Keys (--set section.key=value) and their values:\n"
    )
    print(preset_path(name).read_text(encoding="utf-8").strip())


def show_gpu(name: str) -> None:
    from simulator.gpu import gemm
    from simulator.gpu.layers import NOTES
    from simulator.machine.spec import preset_path

    print((gemm.__doc__ or "").strip())
    print("\nNotes, as reports print them:")
    for note in NOTES:
        print(f"  - {note}")
    print(
        f"\nUsed by `prunesim predict --on {name}` and `prunesim simulate --on {name}`, with --dtype. Level: kernel. Keys (--set "
        "section.key=value) and their values:\n"
    )
    print(preset_path(name).read_text(encoding="utf-8").strip())


def show_energy() -> None:
    from simulator.energy import sources

    print(
        "Constants of energy and area. Each is taken as published, at its own voltage; logic and SRAM are then scaled "
        "to the design's node by the ratio of both nodes at 0.8 V.\n"
    )
    rows = sources()
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        node = "" if row["node_nm"] is None else f"{row['node_nm']} nm"
        print(f"{row['name']:<{width}}  {row['value']:>8.4g} {row['unit']:<8}  {node:<5}  {row['source']}")
