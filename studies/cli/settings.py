"""A settings class (pruning/config.py) as options of a verb: an option a setting, spelled and explained as the class
says."""

from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from studies.cli.output import whole


def options(kind: type) -> type:
    """A subclass of `kind`, whose fields are annotated for cyclopts; take it with Parameter(name="*")."""
    hints = get_type_hints(kind)
    made = [
        (each.name, annotated(hints[each.name], each.metadata["help"]), field(default=None, metadata=each.metadata))
        for each in fields(kind)
    ]
    tables = [each.name for each in fields(kind) if dict in kinds(hints[each.name])]

    def read_tables(self: Any) -> None:
        for name in tables:
            if (texts := getattr(self, name)) is not None and not isinstance(texts, dict):  # read, where it is a copy
                from studies.masks import parse_values  # needs numba, which `--help` does without

                object.__setattr__(self, name, parse_values(list(texts)))

    namespace = {"__post_init__": read_tables}
    cls = make_dataclass(kind.__name__, made, bases=(kind,), frozen=True, kw_only=True, namespace=namespace)
    cls.__module__ = kind.__module__  # cyclopts looks for the annotations there
    return cls


def annotated(hint: Any, text: str) -> Any:
    """By its type: whole numbers as written; texts, and `key=value` texts, by repeating the option."""
    if {dict, tuple} & kinds(hint):
        return Annotated[tuple[str, ...] | None, Parameter(negative="", help=text)]
    return Annotated[hint, Parameter(converter=whole if int in kinds(hint) else None, negative="", help=text)]


def kinds(hint: Any) -> set[Any]:
    return {get_origin(kind) or kind for kind in get_args(hint)}
