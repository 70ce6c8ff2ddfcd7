"""What a pruning run is put together from: a method, a quantizer, an allocation. Each is a frozen dataclass whose
fields are its settings, so that an instance says all that it will do."""

import dataclasses
import inspect
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from workloads.errors import UserError, meant
from workloads.files import sha256_of_file

OURS = __name__.partition(".")[0]


@dataclass(frozen=True)
class Component:
    """`name` is what users call it. The text of its file, or of the class where the file has none, is what `show`
    prints."""

    name: ClassVar[str] = ""

    @classmethod
    def documentation(cls) -> str:
        return inspect.cleandoc(getattr(sys.modules.get(cls.__module__), "__doc__", None) or cls.about_settings())

    @classmethod
    def about_settings(cls) -> str:
        """The text of the class; "" for the signature that dataclasses put in the place of a missing one."""
        text = cls.__doc__ or ""
        return "" if text.startswith(f"{cls.__name__}(") else inspect.cleandoc(text)

    @classmethod
    def with_settings(cls, values: dict[str, Any]) -> Self:
        """Raises UserError for an unknown key or a value of the wrong type or outside its range."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                has = f"{meant(key, known)}it has: {', '.join(known) or 'none'}"
                raise UserError(f"{cls.name} has no parameter {key!r}; {has}")
            if isinstance(values[key], float) and not math.isfinite(values[key]):
                raise UserError(f"{cls.name}: {key} = {values[key]}: it must be a finite number")
        try:
            return TypeAdapter(cls).validate_json(json.dumps(values, default=repr), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{cls.name}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it: its settings, and of code from outside the hash of its file, so that a run is
        never continued by other code."""
        source = self.foreign_source()
        return {**vars(self), **({} if source is None else {"source_sha256": sha256_of_file(source)})}

    @classmethod
    def foreign_source(cls) -> Path | None:
        """The file of a class that is not of this package."""
        if cls.__module__.partition(".")[0] == OURS:
            return None
        try:
            return Path(inspect.getfile(cls))
        except (TypeError, OSError):  # made in an interpreter
            return None
