"""What an accelerator is to the rest of the program: a class is a cycle model, an instance a design with its spec."""

import dataclasses
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from simulator.accelerators.baseline import beside_unpruned
from simulator.cycles import LayerCycles, Outcome
from simulator.identity import source_sha256
from simulator.machine.parts import check_heard
from simulator.machine.spec import (
    checked,
    difference,
    keys_set,
    not_stated,
    preset_path,
    preset_values,
    settings_text,
    spec_sha256,
    with_overrides,
    with_sections,
)
from simulator.statistics import Statistics
from simulator.work import Work
from workloads.arguments import taken, typed
from workloads.columns.column import Column
from workloads.errors import UserError
from workloads.files import sha256_of
from workloads.mask import PackedMask
from workloads.plugins import check_name

Values = Callable[[], Mapping[str, np.ndarray]]  # reads the weights a bundle carries for a layer, {} if none
Preset = str | Path | Mapping[str, Any]  # a name, a TOML file, or the values


# Of the attributes of a class, as far as it states them: what a slip in them would show as far from here.
_STATED = {
    "name": str,
    "level": str,
    "notes": tuple[str, ...],
    "columns": tuple[Column, ...],
    "only_tokens": int,
    "statistics_version": int,
}


class Accelerator(ABC):
    """A machine that runs y = x W^T. `gather` sums up a mask once for all designs of a `geometry`, `layer` counts from
    that.

        Vitcod()                                            as its preset has it
        Vitcod("array.height=16", "clock.mhz=800")          with settings of the preset changed
        Vitcod(array=Array(32, 32), dram=Ddr4(channels=2))  with sections of the spec given; a dict changes single keys
        Systolic(preset="tpu-v4")                           as another preset: a name, the Path of a TOML file, a dict

    A subclass states `name`, `spec_type` (a frozen dataclass; most extend `Machine`), `notes` and, unless <name>.toml
    lies beside its file or all of the spec has defaults, `preset`. An instance is a value: nothing but class, name and
    spec decides what it does.
    """

    name: str = ""  # of the design as rows have it: the preset's, or the class's own
    spec_type: ClassVar[type]
    preset: ClassVar[Preset] = ""
    level: ClassVar[str] = "cycle"
    notes: ClassVar[tuple[str, ...]] = ()  # deviations and approximations, one sentence each, for reports
    documentation: ClassVar[str] = ""  # the class's docstring, or its module's
    reads_values: ClassVar[bool] = False  # gather looks at weight values, not at the mask alone
    skips_zero_inputs: ClassVar[bool] = (
        False  # others multiply them: an activation density below 1 changes nothing there
    )
    reuses_halo: ClassVar[bool] = False  # `layer` heeds Work.distinct
    columns: ClassVar[tuple[Column, ...]] = ()  # of its rows, beside those of all; `LayerCycles.extra` has their values
    only_tokens: ClassVar[int | None] = None  # the only number of tokens it knows
    statistics_version: ClassVar[int] = 1  # raised when `gather` gives other arrays for the same mask
    spec: Any

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        module = sys.modules.get(cls.__module__)
        cls.documentation = inspect.cleandoc(cls.__doc__ or (module and module.__doc__) or "")
        for attribute, kind in _STATED.items():
            if not hasattr(type(stated := vars(cls).get(attribute)), "__get__") and stated is not None:
                taken(f"{cls.__name__}.{attribute}", kind, stated)

    @typed
    def __init__(self, *overrides: str, preset: Preset = "", name: str = "", **sections: Any) -> None:
        """Raises UserError, naming the key, for what the spec does not have and for values out of range."""
        cls = type(self)
        self.name = (
            name or (preset if isinstance(preset, str) else preset.stem if isinstance(preset, Path) else "") or cls.name
        )
        check_name(cls.__name__, self.name)
        values, changed = preset_of(cls, preset), []
        if sections:
            plain, values = values, with_sections(self.name, cls.spec_type, values, sections)
            changed = difference(plain, values)
        values = with_overrides(self.name, cls.spec_type, values, overrides)
        self.spec = checked(self.name, cls.spec_type, values)
        needed = ("clock", "number") if cls.evaluate is Accelerator.evaluate else ("clock",)
        if missing := [part for part in needed if not hasattr(self.spec, part)]:
            raise UserError(f"{self.name}: {cls.spec_type.__name__} has no `{missing[0]}`; extend Machine, or add it")
        stated = [key for key in keys_set(changed) if key not in not_stated(sections)]
        check_heard(self.name, cls.spec_type, values, [*stated, *keys_set(overrides)])
        self._set = (*changed, *overrides)  # what was set differently from the preset
        given = [repr(override) for override in overrides] + ([f"preset={preset!r}"] if preset else [])
        given += ([f"name={name!r}"] if name else []) + [f"{key}={value!r}" for key, value in sections.items()]
        self._text = f"{cls.__name__}({', '.join(given)})"

    @classmethod
    def of(cls, spec: Any, name: str = "", settings: Sequence[str] = ()) -> Self:
        """The design of a spec that is there already, and checked; `settings` are what was set in it."""
        self = cls.__new__(cls)
        self.name, self.spec, self._set = name or cls.name, spec, tuple(settings)
        self._text = f"{cls.__name__}.of({spec!r})"
        return self

    @property
    def arrays(self) -> int:
        """How many parts of it can each work on something else, as attention's heads are."""
        return 1

    def share(self, arrays: int) -> Self:
        """So many of them, a divisor of `arrays`, with their share of buffers and of DRAM."""
        return self

    def changed(self, *overrides: str) -> Self:
        """The same design with further settings. Raises UserError as making one does."""
        if not overrides:
            return self
        values = with_overrides(self.name, self.spec_type, dataclasses.asdict(self.spec), overrides)
        spec: Any = checked(self.name, self.spec_type, values)
        check_heard(self.name, self.spec_type, values, keys_set(overrides))
        return type(self).of(spec, self.name, (*self._set, *overrides))

    @property
    def settings(self) -> str:
        """ "key=value" texts of what was set, each key once."""
        return settings_text(self._set)

    @abstractmethod
    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """What `layer` must know of a mask, as named arrays, small beside it; kept on disk, so only `geometry` may
        decide them."""

    @abstractmethod
    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """One execution of a layer. Raises Infeasible where it cannot run, UserError for settings that contradict each
        other."""

    def geometry(self) -> Any:
        """The part of the spec that `gather` depends on, as JSON can say it; all of it, unless a design knows
        better."""
        return dataclasses.asdict(self.spec)

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        """What stands for `gather` of the unpruned layer, where the machine has a dense format for it."""
        return self.gather(PackedMask.dense(rows, cols), dict)

    def evaluate(self, work: Work, statistics: Statistics) -> Outcome:
        """The layer with its mask, and unpruned beside it on the same machine. Raises as `layer`."""
        return beside_unpruned(self, work, statistics)

    @cached_property
    def sha256(self) -> str:
        """Of the description and, for a class from outside this program, of its source."""
        described = spec_sha256(self.name, self.spec)
        return described if self.source_sha256 == "" else sha256_of([described, self.source_sha256])

    @cached_property
    def source_sha256(self) -> str | None:
        """Of a class from outside this program, "" for ours; None where its source cannot be read."""
        return _source_sha256(type(self))

    @cached_property
    def statistics_key(self) -> list[Any]:
        """Whose statistics these are, whatever the preset; the geometry is their part of the description."""
        return [type(self).name, self.statistics_version, self.source_sha256 or ""]

    def __repr__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (self.name, self.spec) == (other.name, other.spec)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), self.name, self.spec))


def preset_of(cls: type[Accelerator], preset: Preset) -> dict[str, Any]:
    """Of the preset asked for, or of the class's own: stated in it, <name>.toml beside its file, one of ours, or
    nothing (defaults)."""
    preset = preset or cls.preset
    if not isinstance(preset, str):
        return preset_values(preset)
    name = preset or cls.name
    module = sys.modules.get(cls.__module__)
    beside = Path(getattr(module, "__file__", None) or "").with_name(f"{name}.toml") if module else None
    if beside is not None and beside.is_file():
        return preset_values(beside)
    return preset_values(name) if preset or preset_path(name).is_file() else {}


@lru_cache
def _source_sha256(cls: type) -> str | None:
    return source_sha256(_parts(cls))


def _parts(cls: type) -> Iterator[Callable[..., Any]]:
    """The class, its bases between it and Accelerator, and their functions, so that whatever these call of each other
    is among them."""
    for base in cls.__mro__:
        if issubclass(base, Accelerator):
            yield base
            yield from (value for value in vars(base).values() if inspect.isfunction(value))
