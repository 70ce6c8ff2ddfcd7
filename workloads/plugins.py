"""What others add: a class by an installed package's entry point, or by file and name. Either is code, and runs when it
is named.

    my_chip.py:MyChip    the class MyChip of a file; what the file imports may lie beside it
    mychip               of an installed package: the entry point `mychip` in the group prunesim.accelerators

Each room keeps the table of what it has built in, and asks here for every other name.
"""

import importlib.util
import sys
import traceback
from collections.abc import Collection
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from workloads.errors import UserError, one_line, shorten, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

MOST_LETTERS = 100  # of a name
PREFIX = "plugin_"  # of the names of modules made from files


@dataclass(frozen=True)
class Wanted:
    """What a plugin of a kind must be: a subclass of `base` with one of the methods `one_of` its own and a `name` that
    is none of `known`; or, where `instances` says so, an object of such a class."""

    kind: str
    base: type
    known: Collection[str]
    one_of: tuple[str, ...] = ()
    instances: bool = False

    def checked(self, found: Any, where: str) -> Any:
        """`found`, if it is that. Raises UserError."""
        base = self.base.__name__
        if self.instances and isinstance(found, self.base):
            return found
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise UserError(f"{where} is no {base}: derive it from prunesim.{base}")
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        if self.one_of and all(getattr(found, each) is getattr(self.base, each) for each in self.one_of):
            missing = [*missing, *self.one_of]
        if missing:
            raise UserError(f"{where} has no {' or '.join(missing)}, without which it does nothing")
        name = getattr(found, "name", "")
        if not name or name in self.known:
            taken = f"is called {name!r}, as one of ours is" if name else "has no name"
            raise UserError(f"{where} {taken}: give it a `name` of its own, as rows and reports shall show it")
        check_name(where, name)
        return found


def check_name(where: object, name: Any) -> None:
    """Raises UserError unless rows, files and tables can show it as the name of a thing."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: name = {name!r}: expected a text")
    if len(name) > MOST_LETTERS or not name.isprintable() or "/" in name or "\\" in name:
        raise UserError(
            f"{where}: name = {shorten(repr(name), 60)}: a name has up to {MOST_LETTERS} printable characters, and no "
            "slashes"
        )


def is_file_name(text: str) -> bool:
    """Whether a name means a Python file, with or without a name in it."""
    return text.endswith(".py") or parted(text)[0] != text


def parted(text: str) -> tuple[str, str]:
    """ "my_chip.py:MyChip" -> ("my_chip.py", "MyChip"); "my_chip.py" -> ("my_chip.py", "")."""
    path, _, name = text.rpartition(":")
    return (path, name) if path.endswith(".py") else (text, "")


def located(text: str, beside: Path) -> str:
    """A name as a file in the folder `beside` says it: paths of files are relative to that."""
    return str(beside / text) if is_file_name(text) or text.endswith(".toml") else text


def shown(text: str) -> str:
    """What a reader calls it: the class, a machine file without its folder, or the name itself."""
    return parted(text)[1] or Path(text).stem if is_file_name(text) or text.endswith(".toml") else text


def find(wanted: Wanted, name: str) -> Any:
    """What `name`, which is none of ours, stands for. Raises UserError in one line: unknown name, no such file, no such
    class in it, not of that kind, or code that fails."""
    if is_file_name(name):
        return _of_file(wanted, name)
    added = installed(wanted.kind)
    if name not in added:
        raise unknown(wanted.kind.removesuffix("s"), name, [*wanted.known, *added])
    package = added[name].dist
    where = f"{name}, of the package {package.name}," if package is not None else name
    try:
        found = added[name].load()
    except Exception as error:
        raise UserError(f"{where} cannot be loaded: {type(error).__name__}: {one_line(error)}") from None
    return wanted.checked(found, where)


@lru_cache
def installed(kind: str) -> "dict[str, EntryPoint]":
    """The entry points of a kind, by name; nothing is loaded."""
    from importlib.metadata import entry_points

    return {point.name: point for point in sorted(entry_points(group=f"prunesim.{kind}"), key=lambda point: point.name)}


def _of_file(wanted: Wanted, text: str) -> Any:
    path, name = parted(text)
    module = module_of(Path(path))
    own = [key for key, value in vars(module).items() if _made_here(wanted, module, value)]
    if not name:
        raise UserError(f"{text}: say what of that file is meant, such as {path}:{own[0] if own else 'Name'}")
    if name not in vars(module):
        raise UserError(f"{path}: {unknown('name', name, own)}" if own else f"{path} has no {name!r}")
    return wanted.checked(getattr(module, name), f"{path}:{name}")


def _made_here(wanted: Wanted, module: ModuleType, value: Any) -> bool:
    if wanted.instances and isinstance(value, wanted.base):
        return True
    return isinstance(value, type) and issubclass(value, wanted.base) and value.__module__ == module.__name__


def module_of(path: Path) -> ModuleType:
    """The module a file makes, run once for each content of the file. Raises UserError."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give an existing file.py:Name") from None
    name = f"{PREFIX}{path.stem}_{sha256(source).hexdigest()[:12]}"  # the same wherever it lies, another when edited
    if name in sys.modules and sys.modules[name].__file__ == str(path.resolve()):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last: what lies beside the file hides nothing
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no part of our output
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__} "
        said = f"{kind}{_line(error, path)}".strip()
        raise UserError(f"{path} cannot be run: {said}{': ' if said else ''}{one_line(_said(error))}") from None
    return module


def _said(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__


def _line(error: BaseException, path: Path) -> str:
    """ "in line 3": the last line of the file that was on the way to the error."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"in line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    return f"in line {lines[-1]}" if lines else ""


def culprit(error: BaseException) -> str:
    """ "my_chip.py, line 12" where an error came out of a plugin's file, or of what that called; else ""."""
    files = {module.__file__ for name, module in sys.modules.items() if name.startswith(PREFIX)}
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename in files]
    return lines[-1] if lines else ""
