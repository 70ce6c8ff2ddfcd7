"""The `[[methods]]` of a study file: an entry stands for one run per target and seed, for a bundle of masks that is
there, or for what shapes alone are treated with."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from pruning.config import PruneConfig
from studies.speed.asked import SpeedConfig
from studies.treatments import DENSE, parse_treatments
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.patterns import UNSTRUCTURED
from workloads.plugins import located, shown
from workloads.treatment import REFUSE

T = TypeVar("T")
# A list with something in it; `tokens = 64` is as good as `tokens = [64]`.
Several = Annotated[
    tuple[T, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list | tuple) else (value,)),
]
GENERATED = "generated"
CODE = ("method", "quantizer", "allocation")  # may be file.py:Name, beside the study
NOT_PRUNED = "none"  # the method that keeps every weight: quantization alone


@dataclass(frozen=True)
class StudyMethod(PruneConfig, SpeedConfig):
    """One run: a pruning method, "none", or "generated" with a generator as its pattern; one target, one seed.

    `masks`: the folder of a bundle in place of a method; its header gives pattern, sparsity and seed. `treat`: what a
    whole model without masks is treated with (studies/treatments.py). `after`: the title of the run whose bundle it
    goes on from. `models`: names of those it is run for, None = all.
    """

    pattern: str = UNSTRUCTURED
    fallback: str = REFUSE
    seed: int = 0
    label: str | None = None
    masks: str | None = None
    treat: str = ""
    models: tuple[str, ...] | None = None

    @property
    def speed(self) -> SpeedConfig:
        return SpeedConfig(**{each.name: getattr(self, each.name) for each in fields(SpeedConfig)})

    @property
    def for_speed(self) -> bool:
        """Whether a machine says how much goes, by a speed or by a budget of its cost."""
        return self.speedup is not None or self.cost is not None

    @property
    def asked(self) -> PruneConfig:
        """What to prune with, and for a speed nothing of what that decides."""
        given = {each.name: getattr(self, each.name) for each in fields(PruneConfig)}
        if self.for_speed:
            given |= {"pattern": None if self.pattern == UNSTRUCTURED else self.pattern}
            given |= {"fallback": None if self.fallback == REFUSE else self.fallback}
        return PruneConfig(**given)

    @property
    def known(self) -> PruneConfig:
        """Of which what it needs can be said before the machine says how much goes: the same at a half."""
        return replace(self.asked, sparsity=0.5) if self.for_speed else self.asked

    @property
    def of_attention(self) -> bool:
        """Whether its masks are of attention, in a file of arrays."""
        return of_attention(self.masks)

    def runs_for(self, model: str) -> bool:
        return self.models is None or model in self.models

    @property
    def title(self) -> str:
        """Its name in the report: the label, or the method with what else was asked of it; the same for all targets and
        seeds, which the report shows on their own."""
        if self.label:
            return self.label
        name = shown(self.method or "")
        if self.method == GENERATED and self.pattern != UNSTRUCTURED and ":" not in self.pattern:
            name = f"{self.method} {self.pattern}"
        planned = f"plan {Path(self.plan).stem}" if self.plan else ""
        asked = [self.rule, shown(self.allocation or ""), planned, self.bits_text, self.selection.text]
        said = ", ".join(text for text in (*asked, self.speed_text) if text)
        if self.after and self.method == NOT_PRUNED:
            return f"{self.after} + {said}"
        name = f"{name} ({said})" if said else name
        return f"{self.after} + {name}" if self.after else name

    @property
    def speed_text(self) -> str:
        """ "1.5x on vitcod, prefill:1.25"; "0.8 of vitcod:us"; "" without."""
        if self.cost is not None:
            machine, _, measure = self.cost.rpartition(":")
            return f"{self.budget:g} of {shown(machine)}:{measure}"
        if self.speedup is None:
            return ""
        on = f"{self.speedup:g}x on {shown(self.on or '')}"
        return ", ".join(text for text in (on, self.phase, self.choices, self.also) if text)

    @property
    def bits_text(self) -> str:
        """ "4 bits in groups of 128, gptq"; "" without quantization."""
        if self.bits is None:
            return ""
        grouped = f" in groups of {self.group_size}" if self.group_size else ""
        return f"{self.bits} bits{grouped}" + (f", {shown(self.quantizer)}" if self.quantizer else "")

    @property
    def target(self) -> tuple[str, float | None]:
        """(pattern, sparsity), which is None where N:M or a generator fixes it."""
        return self.pattern, self.sparsity


@dataclass(frozen=True)
class MethodEntry(PruneConfig, SpeedConfig):
    """An entry as the file has it: a `method` or `masks`, the folder of a bundle beside the study file. Of a method
    either `targets` (numbers are unstructured sparsities, texts are patterns) or one `sparsity` or `pattern`; either
    `seeds` or one `seed`. Masks are taken as they are, so only `label` and `models` go with them; only `models` with
    `treat`, treatments of whole models."""

    label: str | None = None
    targets: Several[float | str] | None = None
    seeds: Several[int] | None = None
    masks: str | None = None
    treat: Several[str] | None = None
    models: Several[str] | None = None

    def runs(self, beside: Path = Path()) -> list[StudyMethod]:
        """Target by target, seed by seed; `beside` is the folder of the study file. Raises UserError where two keys say
        the same thing, a value comes twice, or `masks` is no bundle."""
        if sum(map(bool, (self.method, self.masks, self.treat))) != 1:
            raise UserError("needs either `method` or `masks` (the folder of a mask bundle), or `treat`")
        if self.masks:
            return [self._given(beside)]
        if self.treat:
            return self._treated()
        _ = self.selection
        self._check_speed()
        for several, one in (("targets", "sparsity"), ("targets", "pattern"), ("seeds", "seed")):
            if getattr(self, several) is not None and getattr(self, one) is not None:
                raise UserError(f"gives both `{several}` and `{one}`; leave one out")
        for name in ("targets", "seeds"):
            values = getattr(self, name) or ()
            if twice := [value for value in values if values.count(value) > 1]:
                raise UserError(f"`{name}` names {twice[0]!r} twice")
        if self.targets is None:
            targets = [self._sole_target()]
        else:
            targets = [(t, None) if isinstance(t, str) else (UNSTRUCTURED, float(t)) for t in self.targets]
        seeds = self.seeds if self.seeds is not None else (self.seed or 0,)
        return [self._run(beside, pattern, sparsity, seed) for pattern, sparsity in targets for seed in seeds]

    def _check_speed(self) -> None:
        """Raises UserError for keys of a speed without one, and for other words on how much goes."""
        given = SpeedConfig(**{each.name: getattr(self, each.name) for each in fields(SpeedConfig)})
        given.check()
        if given.speedup is None and given.cost is None:
            return
        for name in ("targets", "sparsity", "pattern", "allocation", "plan", "bits"):
            if getattr(self, name) is not None:
                raise UserError(
                    f"{'`speedup`' if given.cost is None else '`budget`'} says how much goes; leave `{name}` out"
                )
        if given.also:
            from studies.speed.demands import parse_also  # machines, which no other entry needs

            parse_also(given.also)
        if self.method in (GENERATED, NOT_PRUNED):
            raise UserError(f"`speedup` and `cost` are for methods that prune weights, not for {self.method!r}")

    def _sole_target(self) -> tuple[str, float | None]:
        if self.method == NOT_PRUNED and self.sparsity is None and self.pattern is None:
            return UNSTRUCTURED, 0.0
        return self.pattern or UNSTRUCTURED, self.sparsity

    def _run(self, beside: Path, pattern: str, sparsity: float | None, seed: int) -> StudyMethod:
        asked = {each.name: getattr(self, each.name) for kind in (PruneConfig, SpeedConfig) for each in fields(kind)}
        asked |= {"on": place_of(asked["on"], beside), "cost": self._cost(beside)}
        asked |= {name: located(asked[name], beside) for name in CODE if asked[name]}
        asked |= {"plan": str(beside / asked["plan"])} if asked["plan"] else {}
        asked |= {"pattern": pattern, "sparsity": sparsity, "seed": seed, "fallback": self.fallback or REFUSE}
        return StudyMethod(**asked, label=self.label, models=self.models)

    def _cost(self, beside: Path) -> str | None:
        machine, _, measure = (self.cost or "").rpartition(":")
        return f"{place_of(machine, beside)}:{measure}" if machine else self.cost

    def _given(self, beside: Path) -> StudyMethod:
        """The bundle's own words, where the entry has no label; of an import its folder's name."""
        self._check_alone(
            MethodEntry(masks=self.masks, label=self.label, models=self.models), "takes its masks as they are"
        )
        assert self.masks is not None
        folder = beside / self.masks
        if folder.suffix == ".npy":
            if not folder.is_file():
                raise UserError(f"`masks`: no such file of attention masks: {folder}")
            return StudyMethod(label=self.label or folder.stem, masks=self.masks, models=self.models)
        if not folder.is_dir():
            raise UserError(
                f"`masks`: no such folder: {folder}; prunesim import makes a bundle of masks from elsewhere"
            )
        bundle = MaskBundle.open(folder)
        header = bundle.header
        label = self.label or (bundle.folder.resolve().name if header.method.startswith("imported-") else header.method)
        return StudyMethod(
            pattern=header.pattern, sparsity=header.target_sparsity, seed=header.seed, label=label, masks=self.masks,
            models=self.models,
        )  # fmt: skip

    def _treated(self) -> list[StudyMethod]:
        self._check_alone(MethodEntry(treat=self.treat, models=self.models), "treats whole models")
        found = parse_treatments(self.treat or ())
        return [StudyMethod(label=each.name, treat=each.name, models=self.models) for each in found]

    def _check_alone(self, plain: "MethodEntry", why: str) -> None:
        """Raises UserError for a key that `plain` has not."""
        for key in (key.name for key in fields(self) if getattr(self, key.name) != getattr(plain, key.name)):
            raise UserError(f"{why}: leave `{key}` out")


def place_of(machine: str | None, beside: Path) -> str | None:
    """Of a machine's name, a file of it or a record: of files beside the study their place."""
    if machine is None or (beside / machine).is_file():
        return None if machine is None else str(beside / machine)
    return located(machine, beside)


def of_attention(masks: str | None) -> bool:
    """Whether `masks` are of attention: a file of arrays, not the folder of a bundle."""
    return masks is not None and masks.endswith(".npy")


def check_titles(entries: list[list[StudyMethod]]) -> None:
    """`entries`: the runs of every entry. Raises UserError unless a title stands for one method with one set of
    settings, at targets that no other entry of that title has."""
    known: dict[str, list[StudyMethod]] = {}
    for runs in entries:
        for run in runs:
            if run.title == DENSE and not run.treat:
                raise UserError("'dense' is what reports call the unpruned model; choose another `label`")
            for other in known.get(run.title, []):
                if not share_a_model(run, other):
                    continue
                if other.target == run.target or settings_of(other) != settings_of(run):
                    raise UserError(f"two methods would both be called {run.title!r}: give each a `label`")
        for run in runs:
            known.setdefault(run.title, []).append(run)


def base_of(run: StudyMethod, runs: Sequence[StudyMethod]) -> StudyMethod | None:
    """The run whose bundle it goes on from: of that title, and of its seed where there are several; None without
    `after`. Raises UserError where none of those before it is meant, or more than one."""
    if run.after is None:
        return None
    before = list(takewhile(lambda other: other is not run, runs))
    named = [other for other in before if other.title == run.after]
    if not named:
        titles = list(dict.fromkeys(other.title for other in before)) or ["none"]
        raise UserError(
            f"`after` names {run.after!r}, which no entry before it is called; they are {', '.join(titles)}"
        )
    found = named if len(named) == 1 else [other for other in named if other.seed == run.seed]
    if len(found) != 1:
        raise UserError(
            f"`after` names {run.after!r}, which has {len(named)} targets and seeds, and no single one with seed "
            f"{run.seed}; give what is meant an entry of its own with a `label`"
        )
    base = found[0]
    if GENERATED in (run.method, base.method) or base.of_attention or base.treat:
        raise UserError(
            "`after` is for masks of a model's weights, not for generated ones, those of attention, or `treat`"
        )
    for name in run.models or ():
        if not base.runs_for(name):
            raise UserError(f"`after` names {run.after!r}, which is not run for model {name!r}")
    if run.models is None and base.models is not None:
        raise UserError(f"`after` names {run.after!r}, which is not run for all models; give the same `models`")
    return base


def share_a_model(one: StudyMethod, other: StudyMethod) -> bool:
    return one.models is None or other.models is None or bool(set(one.models) & set(other.models))


def settings_of(run: StudyMethod) -> dict[str, Any]:
    """Everything but the target, the seed and where masks lie."""
    return {
        name: value
        for name, value in vars(run).items()
        if name not in ("pattern", "sparsity", "seed", "masks", "models")
    }
