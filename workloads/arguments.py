"""What is given to functions in Python, held to their annotations: a wrong type is one line that names the argument,
what came and what is taken.

    @typed
    def simulate(masks: MaskBundle | str | Path | None = None, *, tokens: int = 1) -> Rows: ...

numpy's numbers and arrays are as good as Python's own; True is no number, and no text stands for one. What names this
module for a class's fields alone, as `--help` does, imports neither numpy nor pydantic.
"""

import dataclasses
import inspect
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from workloads.errors import UserError, one_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

P = ParamSpec("P")
R = TypeVar("R")
_WORDS = {Mapping: "dict", Sequence: "list", Any: "anything"}
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which then raises UserError for an argument that is not of its annotation's type."""
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.annotation is parameter.empty:
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(taken(name, parameter.annotation, each) for each in value)
            elif parameter.kind is not parameter.VAR_KEYWORD:
                bound.arguments[name] = taken(name, parameter.annotation, value)
        return function(*bound.args, **bound.kwargs)

    return checked


def hold_fields(value: Any) -> None:
    """For the `__post_init__` of a frozen dataclass that people make: its fields are held to their annotations."""
    kind: Any = type(value)
    for name, annotation in _hints(kind).items():
        object.__setattr__(value, name, taken(name, annotation, getattr(value, name)))


def taken(name: str, annotation: Any, value: Any) -> Any:
    """`value` with Python's numbers and lists for numpy's. Raises UserError unless it is what `annotation` says."""
    from pydantic import ValidationError

    try:
        _adapter(annotation).validate_python((_plain(value, tuple),))
    except ValidationError:
        raise UserError(f"`{name}` takes {in_words(annotation)}, not {shown(value)}") from None
    return _plain(value, list)


def shown(value: Any) -> str:
    """A value for a message: what it looks like and its type."""
    text = _REPR.repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    of = type(value).__name__
    return f"a value of type {of}" if "\n" in text else f"{one_line(text)} ({of})"


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return {each.name: hints[each.name] for hints in [get_type_hints(kind)] for each in dataclasses.fields(kind)}


@lru_cache
def _adapter(annotation: Any) -> "TypeAdapter[Any]":
    """Of the annotation in a tuple: pydantic takes no config beside a dataclass alone."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(tuple[annotation], config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _plain(value: Any, listed: type) -> Any:
    """`listed`: what lists and arrays become. Annotations that ask for a tuple take any of them."""
    numpy = sys.modules.get("numpy")  # without it, nothing is numpy's
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _plain(value.tolist(), listed)
    if isinstance(value, list | range):
        return listed(_plain(each, listed) for each in value)
    if isinstance(value, tuple):
        return tuple(_plain(each, listed) for each in value)
    return {key: _plain(each, listed) for key, each in value.items()} if isinstance(value, Mapping) else value


def in_words(annotation: Any) -> str:
    """ "str | Path | list[str | Path]": with the types that people write, and without None, which says nothing."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return in_words(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(in_words(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return " | ".join(map(repr, parts))
    if parts and parts[-1] is Ellipsis:
        return f"list[{in_words(parts[0])}]"
    name = _WORDS.get(origin or annotation) or (origin or annotation).__name__
    return f"{name}[{', '.join(map(in_words, parts))}]" if parts else name
