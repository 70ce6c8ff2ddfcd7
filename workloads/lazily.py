"""A table of names whose entries are imported when they are asked for: a command that names one design waits for no
other."""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")


class Lazily(MutableMapping[str, Entry], Generic[Entry]):
    """`places`: name -> "module:attribute". Names, their order and their number are known without an import."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._set: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Entry:
        place = self._set.get(name) or self._places[name]
        if isinstance(place, str):
            module, _, attribute = place.partition(":")
            place = getattr(import_module(module), attribute)
        self._set[name] = place
        return place

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._places.setdefault(name, "")
        self._set[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._set.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
