"""prunesim show"""

import dataclasses
import json

from workloads.errors import unknown


def show(name: str, /) -> None:
    """Describe an accelerator (its model, its keys for --set), a method (its parameters), or a model (its config)."""
    from simulator.accelerators import ACCELERATORS
    from workloads.catalog import catalog_config, catalog_names

    if name in ACCELERATORS:
        show_accelerator(name)
        return
    if name in catalog_names():
        print(json.dumps(catalog_config(name), indent=1))
        return
    from pruning.methods import METHODS

    if name not in METHODS:
        raise unknown("name", name, [*ACCELERATORS, *METHODS, *catalog_names()])
    method = METHODS[name]
    print(method.documentation.strip())
    print(f"\nRules (--rule, the first is the default): {', '.join(method.rules)}")
    fields = dataclasses.fields(method.parameters_type)
    print("Parameters (--set key=value):" + ("" if fields else " none"))
    for field in fields:
        print(f"  {field.name} = {json.dumps(field.default)}")


def show_accelerator(name: str) -> None:
    from simulator.accelerators import ACCELERATORS
    from simulator.spec import preset_path

    model = ACCELERATORS[name]
    print(model.documentation.strip())
    print(f"\nLevel: {model.level}. Keys (--set section.key=value) and their values:\n")
    print(preset_path(name).read_text(encoding="utf-8").strip())
