"""prunesim show"""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.kinds import ENERGY, kind_of
from workloads.errors import UserError

if typing.TYPE_CHECKING:
    from pruning.component import Component


def show(name: str = "", /, *, toml: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Describe an accelerator, GPU, method, quantizer or allocation (what it does, its keys for --set), a family (what
    it is), a model (its config), a record (who measured what, and how predictions compare), or energy (the
    constants of energy and area, with their sources), or a folder of masks (what it holds, and what its method says of
    every block). Without a name: what there is, as `ls`.

    Parameters
    ----------
    name
        One of ours (prunesim ls), of an installed package, file.py:Name, a machine file such as my_chip.toml, a
        record's file, or a folder of masks or of a model.
    toml
        Print an accelerator or a GPU as a machine file, which --on reads: keep what shall differ.
    """
    if not name and toml:
        raise UserError("`toml` is of an accelerator or a GPU; say which, such as vitcod")
    if not name:
        from studies.cli.ls_verb import ls

        ls()
        return
    if name == ENERGY and not toml:
        show_energy()
        return
    if (Path(name) / "bundle.json").is_file() and not toml:
        from studies.masks import bundle_text
        from studies.speed.result import read_met
        from workloads.bundle import MaskBundle

        print(bundle_text(MaskBundle.open(name)))
        met = read_met(Path(name))
        if met is not None:
            print("\n".join(met.lines))
        return
    kind = kind_of(name)
    if toml:
        if kind not in ("accelerators", "gpus", "attention"):
            raise UserError(f"`toml` is for accelerators and GPUs; {name} is none")
        from studies.cli.machines import toml_of

        print(toml_of(name), end="")
    elif kind in ("accelerators", "gpus", "attention"):
        show_machine(name, kind)
    elif kind == "records":
        from studies import published_tables, records

        print((published_tables if name in published_tables.TABLES else records).described(name))
    elif kind == "models":
        from checkpoints.catalog import resolve_config

        print(json.dumps(resolve_config(name)[1], indent=1))
    elif kind == "families":
        from pruning.families import find_family

        print(find_family(name)[0].documentation())
    else:
        show_component(name, kind)


def show_machine(name: str, kind: str) -> None:
    from simulator.accelerators.named import find_accelerator, open_accelerator
    from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
    from simulator.machine.files import is_machine_file
    from studies.cli.machines import accelerator_text, gpu_text

    if kind == "gpus":
        print(gpu_text(name))
    elif kind == "attention":
        print(accelerator_text(name, ATTENTION_MODELS[name], "attention"))
    else:
        print(accelerator_text(name, open_accelerator(name) if is_machine_file(name) else find_accelerator(name)))


def show_component(name: str, kind: str) -> None:
    from pruning.allocations import find_allocation
    from pruning.methods import find_method
    from pruning.quantizers import QUANTIZERS, find_quantizer

    if kind == "methods":
        method = find_method(name)
        print(method.documentation())
        print(f"\nRules (--rule, the first is the default): {', '.join(method.rules)}")
        show_parameters(method, "")
        quantizers = ", ".join(f"{q} (together with pruning)" if q in method.joint else q for q in QUANTIZERS)
        print(f"Quantizers (--bits N --quantizer, default {method.default_quantizer}): {quantizers}")
    else:
        component = find_quantizer(name) if kind == "quantizers" else find_allocation(name)
        print(component.documentation())
        show_parameters(component, f"{kind.removesuffix('s')}.")


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
