"""Whose mask is it? The names that others give their masks become layers: by the name itself, a pattern or a table of
patterns, and, where a model is given, by its own layers."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.errors import UserError, one_line
from workloads.files import read_json
from workloads.importers import block_of
from workloads.layers import Layer
from workloads.parsing import parse_toml
from workloads.roles import role_of

# What tools put around a layer's name: torch.nn.utils.prune, state dicts, data parallel and compiled modules.
MASK_ENDINGS = (".weight_mask", ".mask", "_mask")
_BEGINNINGS = ("module.", "_orig_mod.")
_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_EXAMPLE = '`names` \'l{block}_{role}\' for names like l0_q_proj, or a .toml or .json file of "their pattern" = "layer"'


@dataclass(frozen=True)
class NameRule:
    """`pattern`: their names, with {block} and other holes; `template`: the layer's name made of them, "" where block
    and role alone say which layer it is."""

    pattern: str
    template: str = ""

    @property
    def regex(self) -> re.Pattern[str]:
        parts = _HOLE.split(self.pattern)
        holes = {"block": "[0-9]{1,9}", "expert": "[0-9]{1,9}"}
        named = [
            f"(?P<{part}>{holes.get(part, '.+')})" if odd % 2 else re.escape(part) for odd, part in enumerate(parts)
        ]
        return re.compile("".join(named))


@dataclass(frozen=True)
class Named:
    """What is known of a mask by its name; `told`: by a rule, not by our reading of it."""

    name: str
    role: str
    block: int
    told: bool = False


def read_rules(names: str) -> list[NameRule]:
    """One pattern such as "l{block}_{role}", or a .toml or .json file of PATTERN = TEMPLATE. Raises UserError."""
    if not names:
        return []
    path = Path(names)
    if path.is_file():
        rules = [NameRule(*pair) for pair in _table(path)]
    elif "{block}" in names and "{role}" in names:
        rules = [NameRule(names)]
    else:
        raise UserError(
            f"`names` {names!r} is neither a file nor a pattern with {{block}} and {{role}}; give {_EXAMPLE}"
        )
    for rule in rules:
        holes = _HOLE.findall(rule.pattern)
        if len(set(holes)) < len(holes) or not set(_HOLE.findall(rule.template)) <= set(holes):
            raise UserError(
                f"`names`: {rule.pattern!r} = {rule.template!r}: every {{hole}} stands once on the left, and only "
                f"those on the right"
            )
    return rules


def _table(path: Path) -> list[tuple[str, str]]:
    if path.suffix == ".json":
        table = read_json(path, "`names`")
    else:
        try:
            table = parse_toml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"`names`: {path} is not a readable TOML file: {one_line(error)}") from None
    if (
        not isinstance(table, dict)
        or not table
        or not all(isinstance(value, str) and value for value in table.values())
    ):
        raise UserError(
            f"`names`: {path} must be a table of texts, their name = the layer's name, and hold at least one"
        )
    return list(table.items())


def named(name: str, rules: Sequence[NameRule]) -> Named:
    """By the first rule that fits the whole name, else by the name itself."""
    for text in dict.fromkeys((plain_name(name), name)):
        for rule in rules:
            found = rule.regex.fullmatch(text)
            if found is None:
                continue
            holes = found.groupdict()
            if rule.template:
                made = _HOLE.sub(lambda hole: holes[hole[1]], rule.template)  # noqa: B023  (called at once)
                return Named(made, role_of(made), block_of(made), True)
            return Named(text, role_of(holes["role"]), int(holes["block"]), True)
    text = plain_name(name)
    return Named(text, role_of(text), block_of(text))


def plain_name(name: str) -> str:
    """Without what tools put around it: "module.layers.0.q_proj.weight_mask" -> "layers.0.q_proj"."""
    for beginning in _BEGINNINGS:
        name = name.removeprefix(beginning)
    ending = next((e for e in (*MASK_ENDINGS, ".weight") if name.endswith(e) and len(name) > len(e)), "")
    return name.removesuffix(ending)


class ModelLayers:
    """The layers of the model that masks are said to be of."""

    def __init__(self, model_id: str, layers: Sequence[Layer]):
        self.model_id = model_id
        self.layers: Mapping[str, Layer] = {layer.name: layer for layer in layers}

    def find(self, mask: Named, where: str) -> Layer:
        """By name, by the end of its name where that is one layer's alone, or by block and role where a rule gave them.

        Raises UserError where that is none or several.
        """
        if mask.name in self.layers:
            return self.layers[mask.name]
        found = [
            layer
            for name, layer in self.layers.items()
            if name.endswith(f".{mask.name}") or mask.name.endswith(f".{name}")
        ]
        if not found and mask.told:
            found = [layer for layer in self.layers.values() if (layer.block, layer.role) == (mask.block, mask.role)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{where} could be of {len(found)} layers of {self.model_id}, {found[0].name} and {found[1].name} "
                f"among them; say which: {_EXAMPLE}"
            )
        near = difflib.get_close_matches(mask.name, self.layers, n=1, cutoff=0)
        raise UserError(f"{where} is of no layer of {self.model_id}, whose {near[0]} is nearest; say which: {_EXAMPLE}")
