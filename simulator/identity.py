"""Whose arrays a file of statistics holds: a model's name and version, and its source where it is from elsewhere."""

import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = (
    "simulator",
    "workloads",
    "prunesim",
    "validation",
)  # versioned with this program: an edit raises Accelerator.statistics_version
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def source_sha256(parts: Iterable[Callable[..., Any]]) -> str | None:
    """Hash of the source files that `parts`, classes and functions, come from, with what those import from beside them;
    "" where all are OURS, None where some source cannot be read: nothing tells then whether it is still the same.

    Other packages that are installed are taken as they are; arguments of functools.partial are hashed by their repr.
    """
    digest = hashlib.sha256()
    texts: dict[str, bytes] = {}
    for part in parts:
        function = inspect.unwrap(getattr(part, "py_func", part))
        while isinstance(function, functools.partial):
            digest.update(repr((function.args, sorted(function.keywords.items()))).encode())
            function = inspect.unwrap(getattr(function.func, "py_func", function.func))
        space = _namespace(function)
        if space is None:
            return None
        found = _sources(space, texts)
        if not found:
            return None
    for name, text in sorted(texts.items()):
        digest.update(f"{name}:{len(text)}:".encode() + text)
    return digest.hexdigest() if texts else ""


def _namespace(part: Any) -> dict[str, Any] | None:
    """Of the module that a class, a function or a callable object comes from."""
    if isinstance(part, type):
        module = sys.modules.get(part.__module__)
        return vars(module) if module else None
    plain = part if hasattr(part, "__globals__") else type(part).__call__
    return getattr(plain, "__globals__", None)


def _sources(space: dict[str, Any], texts: dict[str, bytes]) -> bool:
    """Adds the files of a module's namespace and of its neighbours to `texts` (by module name); False where one has
    none."""
    waiting = [space]
    while waiting:
        space = waiting.pop()
        name = str(space.get("__name__"))
        if name in texts or _top(name) in OURS:
            continue
        try:
            texts[name] = Path(space["__file__"]).read_bytes()
        except (KeyError, TypeError, OSError):
            return False
        waiting += [vars(module) for module in _neighbours(space)]
    return True


def _neighbours(space: dict[str, Any]) -> Iterator[ModuleType]:
    """Modules that a namespace names, or names something of: those of its own package, and files that are not
    installed."""
    own = _top(str(space.get("__name__")))
    for value in list(space.values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        module = sys.modules.get(name) if isinstance(name, str) else None
        file = getattr(module, "__file__", None)
        if module is None or not isinstance(file, str):
            continue
        if _top(module.__name__) == own or not file.startswith(_INSTALLED):
            yield module


def _top(name: str) -> str:
    return name.partition(".")[0]
