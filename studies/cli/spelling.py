"""Settings as the command line spells them: library messages name them in Python's words, in backticks.

    `group_size`   --group-size      where the verb that runs has such an option
    `bits=4`       --bits 4
    `fresh=True`   --fresh, and what `=False` is written as where a flag says that
    `bundle`       BUNDLE            where it is the verb's argument
    `simulate`     prunesim simulate where it is a verb, and no option of this one

Anything else in backticks stays as it is: a key of a study file, a name in somebody's code.
"""

import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import get_args

from studies.cli.verbs import VERBS, function_of

QUOTED = re.compile(r"`([a-z_][a-z0-9_]*)(?:=([^`\s]+))?`")


def respelled(text: str, arguments: list[str]) -> str:
    """`text` for a reader who typed `arguments`."""
    verb = next((argument for argument in arguments if argument in VERBS), "")
    options = options_of(verb) if "`" in text else {}

    def spelled(match: re.Match[str]) -> str:
        name, value = match.groups()
        if match[0].strip("`") in options:
            return options[match[0].strip("`")]
        if name in options:
            return options[name] + (f" {value}" if value else "")
        return f"prunesim {name}" if name in VERBS and not value else match.group()

    return QUOTED.sub(spelled, text)


def options_of(verb: str) -> dict[str, str]:
    """How each setting of the verb is written; {} for "" (no verb ran)."""
    if not verb:
        return {}
    module, name = function_of(verb)
    parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    written: dict[str, str] = {}
    for parameter in parameters:
        kind, *marks = get_args(parameter.annotation) or (None,)
        names = [each.name for each in fields(kind)] if is_dataclass(kind) else [parameter.name.rstrip("_")]
        for name in names:
            flag = f"--{name.replace('_', '-')}" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else name.upper()
            off = next((text for mark in marks for text in getattr(mark, "negative", None) or ()), "")
            written |= {name: flag, f"{name}=True": flag} | ({f"{name}=False": off} if off else {})
    return written
