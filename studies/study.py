"""A study file: models, methods, accelerators. TOML, checked key by key."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from workloads.errors import UserError

GENERATED = "generated"


@dataclass(frozen=True)
class StudyModel:
    """`path` is a model folder (beside the study file) or a hub id; with `shapes` (a catalog name or config) instead there
    are no weights and only generated masks can be studied."""

    name: str
    path: str = ""
    shapes: str = ""
    calibration: str = ""
    samples: int | None = None
    seq_len: int | None = None
    text: str = ""
    eval_seq_len: int = 2048
    eval_windows: int | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class StudyMethod:
    """A pruning method, or "generated" with a generator as its pattern. `label` is its name in the report."""

    method: str
    label: str = ""
    pattern: str = "unstructured"
    sparsity: float | None = None
    rule: str | None = None
    seed: int = 0
    set: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, or the method with the rule or the generator it was given."""
        if self.method == GENERATED and self.pattern != "unstructured" and ":" not in self.pattern:
            return self.label or f"{self.method} {self.pattern}"
        return self.label or (f"{self.method} ({self.rule})" if self.rule else self.method)


@dataclass(frozen=True)
class StudyAccelerator:
    name: str
    tokens: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFile:
    title: str
    models: Annotated[tuple[StudyModel, ...], Field(min_length=1)]
    methods: Annotated[tuple[StudyMethod, ...], Field(min_length=1)]
    accelerators: Annotated[tuple[StudyAccelerator, ...], Field(min_length=1)]
    out: str = ""


@dataclass(frozen=True)
class Study:
    """A study file and where it lies; paths in it are relative to its folder."""

    file: StudyFile
    path: Path

    @property
    def out(self) -> Path:
        return Path(self.file.out or f"out/{self.path.stem}")

    def beside(self, name: str) -> Path:
        return self.path.parent / name


def read_study(path: Path) -> Study:
    """Raises UserError naming the file and the key for anything that is not as described above."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such study file: {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not a readable TOML file: {error}") from None
    try:
        content = TypeAdapter(StudyFile).validate_json(json.dumps(values, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        first = min(
            error.errors(), key=lambda each: each["type"] != "unexpected_keyword_argument"
        )  # a misspelt key before a missing one
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {key}: {first['msg']}") from None
    names = [model.name for model in content.models]
    for model in content.models:
        if names.count(model.name) > 1:
            raise UserError(f"{path}: two models are called {model.name!r}")
        if bool(model.path) == bool(model.shapes):
            raise UserError(f"{path}: model {model.name!r} needs either `path` (weights) or `shapes` (a config)")
    return Study(content, path)
