"""A study file: models, methods, accelerators. TOML, checked key by key."""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from pruning.config import CalibrationConfig
from pruning.networks import is_network, package_missing
from studies.executors.asked import StudyExecutor
from studies.method_entry import MethodEntry, Several, StudyMethod, base_of, check_titles, of_attention
from studies.search.settings import StudySearch
from workloads.arguments import in_words, shown
from workloads.errors import UserError, one_line, unknown
from workloads.parsing import parse_toml
from workloads.plugins import located


@dataclass(frozen=True)
class StudyModel(CalibrationConfig):
    """`path` is a model folder (beside the study file), a hub id or a network (prunesim ls families), which needs
    neither calibration nor text; with `shapes` (a catalog name or config) instead there are no weights and only
    generated masks can be studied. An `optional` model is left out where its folder, or the package with its weights,
    is absent."""

    name: str
    path: str = ""
    shapes: str = ""
    optional: bool = False
    text: str = ""
    eval_seq_len: int | None = None
    eval_windows: int | None = None
    eval_compare: bool = False
    dtype: str = "float32"

    @property
    def evaluated(self) -> bool:
        return bool(self.path) and (bool(self.text) or self.is_network)

    @property
    def is_network(self) -> bool:
        """No language model: it has samples and a quality number of its own."""
        return is_network(self.path)

    def place(self, beside: Path) -> str:
        return f"the package {package_missing(self.path)}" if self.is_network else str(beside / self.path)

    def is_there(self, beside: Path) -> bool:
        """Whether its folder, or the package of a network, is."""
        return package_missing(self.path) == "" if self.is_network else (beside / self.path).exists()


@dataclass(frozen=True)
class StudyAccelerator:
    """`name`: one of ours, an installed package's, file.py:Name or a machine file beside the study. `tokens` (1 unless
    given) pass through each layer together, or follow from a `phase` with its sizes, as `prunesim simulate` takes them;
    so it does `include`, whose rows stand beside the layers of those models that have such. `sweep` maps keys
    to lists of values or to ranges: a design for each combination. `trace` names a layer, or a role (its first layer),
    whose utilisation over time the report shows. A GPU has neither; it has a `dtype` ("": fp16), and `published` sets
    published figures of the same GEMMs beside its predictions. `routing`: how experts share tokens, uniform, balanced
    or a .json or .csv file of counts. `halo_reuse`: what windows of a convolution share is fetched once. `models` are
    names of those that run here, all unless given."""

    name: str
    tokens: Several[int] | None = None
    phase: str = ""
    batch: Several[int] | None = None
    prompt: Several[int] | None = None
    context: Several[int] | None = None
    include: Several[str] = ()
    activation_density: Annotated[float, Field(gt=0, le=1)] = 1.0
    set: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    trace: str = ""
    dtype: str = ""
    published: bool = False
    routing: str = "uniform"
    halo_reuse: bool = False
    models: Several[str] | None = None

    def runs(self, model: StudyModel) -> bool:
        return self.models is None or model.name in self.models


@dataclass(frozen=True)
class StudyPhase:
    """Whole models (studies/inference.py), a row for each combination of the values given. `kind` generate: `prompt`
    and `generate` tokens; prefill: `prompt` alone; decode: one step that sees `context` tokens. The rest as `prunesim
    inference` takes it."""

    kind: str = "generate"
    batch: Several[int] = (1,)
    prompt: Several[int] | None = None
    generate: Several[int] | None = None
    context: Several[int] | None = None
    tensor_parallel: Several[int] = (1,)
    kv_bits: int | None = None
    host: str = ""
    reserve_gib: float | None = None


@dataclass(frozen=True)
class StudyRecord:
    """A record of `prunesim measure`, beside the study file, or the name of one that ships; `l2` says which of its
    times are meant: cold or warm. `models` are names of those whose layers are looked up in it, at these `tokens` (all
    of the record unless given), instead of all that it has; `dtype` of the dense layer, all unless given. Or a record
    of `measure` with `end_to_end`, whose whole models stand among those of [[phases]]; whole-models and operators,
    which ship, beside these what was published of the same.

    With `on` = "cpu" instead of a record: the linears of `models` are measured on this machine as the study runs, by
    `kernels` (all unless given), masked ones at `density`; what is noisy is shown as that."""

    record: str = ""
    l2: str = "cold"
    models: Several[str] = ()
    tokens: Several[int] = ()
    dtype: str = ""
    on: Literal["", "cpu"] = ""
    kernels: str = ""
    density: str = ""


@dataclass(frozen=True)
class StudyReport:
    """`style`: a matplotlib style file for the figures on paper, beside the study file, on top of prunesim's own."""

    style: str = ""


@dataclass(frozen=True)
class StudyFile:
    """Without accelerators a study is one of quality alone; with a search it needs no methods either."""

    title: str
    models: Annotated[tuple[StudyModel, ...], Field(min_length=1)]
    methods: tuple[MethodEntry, ...] = ()
    accelerators: tuple[StudyAccelerator, ...] = ()
    phases: tuple[StudyPhase, ...] = ()
    measured: tuple[StudyRecord, ...] = ()
    report: StudyReport = StudyReport()
    executor: StudyExecutor = field(default_factory=StudyExecutor)
    search: StudySearch | None = None
    out: str = ""


@dataclass(frozen=True)
class Study:
    """A study file, where it lies (paths in it are relative to its folder), and what it asks to be run here.

    models: those of the file but the optional ones whose folder is absent, which `absent` holds.
    """

    file: StudyFile
    path: Path
    models: tuple[StudyModel, ...]
    absent: tuple[StudyModel, ...]
    methods: tuple[StudyMethod, ...]

    @property
    def out(self) -> Path:
        return Path(self.file.out or f"out/{self.path.stem}")

    def beside(self, name: str) -> Path:
        return self.path.parent / name

    @property
    def style(self) -> Path | None:
        return self.beside(self.file.report.style) if self.file.report.style else None

    def place_of(self, model: StudyModel) -> str:
        """Where its config is: beside the study file, or a name."""
        name = model.path or model.shapes
        return str(self.beside(name)) if self.beside(name).exists() else name


def read_study(path: Path) -> Study:
    """Raises UserError naming the file and the key for anything that is not as described above."""
    content = _located(_parsed(path), path.parent)
    if not content.methods and content.search is None:
        raise UserError(f"{path}: methods: expected at least one table, [[methods]], or a [search]")
    names = [model.name for model in content.models]
    for model in content.models:
        if names.count(model.name) > 1:
            raise UserError(f"{path}: two models are called {model.name!r}")
        methods = [entry for entry in content.methods if entry.models is None or model.name in entry.models]
        masked = bool(methods) and all(of_attention(entry.masks) for entry in methods)  # attention masks need no layers
        if bool(model.path) == bool(model.shapes) and not (masked and not model.path):
            raise UserError(f"{path}: model {model.name!r} needs either `path` (weights) or `shapes` (a config)")
        if not content.accelerators and not model.evaluated and content.search is None:
            raise UserError(f"{path}: without [[accelerators]] perplexity is all there is to report: give model "
                            f"{model.name!r} `path` and `text`")  # fmt: skip
    for accelerator in content.accelerators:
        for name in accelerator.models or ():
            if name not in names:
                raise UserError(f"{path}: {accelerator.name}: {unknown('model', name, names)}")
    for record in content.measured:
        if bool(record.record) == bool(record.on):
            raise UserError(f"{path}: [[measured]] has either a `record` or `on`, what is measured as the study runs")
        called = record.record or f"[[measured]] on = {record.on!r}"
        for name in record.models:
            if name not in names:
                raise UserError(f"{path}: {called}: {unknown('model', name, names)}")
        if record.on and not record.models:
            raise UserError(f"{path}: {called}: give `models`, whose linears are measured")
        if record.tokens and not record.models:
            raise UserError(f"{path}: {called}: `tokens` are those of `models`; give them too")
        if not record.on and (record.kernels or record.density):
            raise UserError(f"{path}: {called}: `kernels` and `density` are of what is measured `on` this machine")
    if content.phases and not content.accelerators:
        raise UserError(f"{path}: [[phases]] need [[accelerators]] to run on")
    for number, method in enumerate(content.methods):
        if method.treat and not content.phases:
            raise UserError(f"{path}: methods.{number}: `treat` is of whole models; say in [[phases]] what they run")
        for name in method.models or ():
            if name not in names:
                raise UserError(f"{path}: methods.{number}: {unknown('model', name, names)}")
    absent = tuple(m for m in content.models if m.optional and m.path and not m.is_there(path.parent))
    models = tuple(model for model in content.models if model not in absent)
    if not models:
        raise UserError(
            f"{path}: none of its optional models is there; the first is looked for at {absent[0].place(path.parent)}"
        )
    study = Study(content, path, models, absent, _expanded(path, content.methods))
    if study.style is not None:
        _check_style(study)
    return study


def _check_style(study: Study) -> None:
    from reports.figures.drawing import check_style

    try:
        check_style(study.style)
    except UserError as error:
        raise UserError(f"{study.path}: report.style: {error}") from None


def _located(content: StudyFile, beside: Path) -> StudyFile:
    """With the files of machines and networks where they lie: paths in a study are relative to it."""
    accelerators = tuple(replace(each, name=located(each.name, beside)) for each in content.accelerators)
    models = tuple(
        replace(each, path=located(each.path, beside)) if each.is_network else each for each in content.models
    )
    search = content.search and replace(content.search, on=located(content.search.on, beside))
    executor = replace(content.executor, name=located(content.executor.name, beside))
    return replace(content, accelerators=accelerators, models=models, executor=executor, search=search)


def _parsed(path: Path) -> StudyFile:
    try:
        values = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such study file: {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable TOML file: {one_line(error)}") from None
    try:
        return TypeAdapter(StudyFile).validate_json(json.dumps(values, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        first = min(
            error.errors(), key=lambda each: each["type"] != "unexpected_keyword_argument"
        )  # a misspelt key before a missing one
        if first["type"] == "unexpected_keyword_argument":
            raise UserError(f"{path}: {unknown_key(first['loc'])}") from None
        raise UserError(f"{path}: {wrong_value(first)}") from None


TABLES = {"models": StudyModel, "methods": MethodEntry, "accelerators": StudyAccelerator, "phases": StudyPhase,
          "measured": StudyRecord, "report": StudyReport, "executor": StudyExecutor,
          "search": StudySearch}  # fmt: skip
ALONE = ("report", "executor", "search")  # of which a study has one each


def wrong_value(error: Any) -> str:
    """What is wrong with a key's value, from pydantic's error."""
    place, kind, message = error["loc"], error["type"], error["msg"]
    named = place[:3] if _within(place) and isinstance(place[1], int) else place[: 2 if _within(place) else 1]
    key = ".".join(str(part) for part in named)
    if place[-1] in TABLES and len(place) == 1:
        return (
            f"{key}: expected one table, [{key}]" if key in ALONE else f"{key}: expected at least one table, [[{key}]]"
        )
    if "missing" in kind:
        return f"{key} is missing"
    if kind == "too_short":
        return f"{key} is empty; give at least one"
    if kind.endswith("_type") and (table := TABLES.get(str(place[0])) if _within(place) else StudyFile):
        message = f"expected {in_words(get_type_hints(table)[str(named[-1])])}"
    return f"{key} = {shown(error['input'])}: {message}"


def _within(place: tuple[int | str, ...]) -> bool:
    """Whether it is a key of a table, [[models]] or [report]."""
    return len(place) > 2 or (len(place) == 2 and isinstance(place[1], str))


def unknown_key(place: tuple[int | str, ...]) -> UserError:
    """For a key that a study file or one of its tables does not have; `place` as pydantic gives it: ("models", 0,
    "nmae")."""
    table = TABLES.get(str(place[0])) if len(place) > 1 else StudyFile
    known = [each.name for each in fields(table)] if table is not None else list(TABLES)
    where = f"key of [[{place[0]}]] number {int(place[1]) + 1}," if len(place) > 2 else "key"
    return unknown(where, str(place[-1]), known)


def _expanded(path: Path, entries: tuple[MethodEntry, ...]) -> tuple[StudyMethod, ...]:
    runs = []
    for number, entry in enumerate(entries):
        try:
            runs.append(entry.runs(path.parent))
        except UserError as error:
            name = entry.label or entry.method
            raise UserError(f"{path}: methods.{number}: {name + ' ' if name else ''}{error}") from None
    try:
        check_titles(runs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    every = tuple(run for entry in runs for run in entry)
    for run in every:
        try:
            base_of(run, every)
        except UserError as error:
            raise UserError(f"{path}: {run.title}: {error}") from None
    return every
