"""A pruning run to check: a recipe on a tiny model, and the count it must hit."""

import atexit
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from checkpoints.checkpoint import Checkpoint
from pruning.config import PruneConfig
from pruning.data.calibration import Calibration
from pruning.methods import PruningMethod
from pruning.quantizers import QUANTIZERS, Quantization
from pruning.run.driver import prune
from pruning.run.recipe import Recipe
from validation.conformance.laws import Skipped
from validation.conformance.tiny_models import quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.patterns import parse_pattern

SPARSITY = 0.3
FAMILIES = ("llama-tied", "gpt2", "mixtral")  # tied weights and biases; transposed storage; experts
UNITS = {"row": "row", "layer": "layer", "slab": "layer", "global": "model"}  # that a rule makes exact
EXACT = {"besa": "block"}  # methods of ours whose rule only orders what a block shares out


@dataclass(frozen=True)
class Trial:
    """exact: what holds the target exactly: every "row", "layer", "block", "run" of m inputs, the whole "model", ""
    nothing."""

    name: str
    recipe: Recipe
    exact: str = ""
    family: str = "llama"
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{self.name} on a tiny {self.family}"

    def folder(self, shard_size: str = "1GB") -> Path:
        """Of the model, made once."""
        return _saved(self.family, self.dtype, shard_size)

    def checkpoint(self, shard_size: str = "1GB") -> Checkpoint:
        return Checkpoint(self.folder(shard_size), torch.float32)

    def run(self, out: Path, checkpoint: Checkpoint | None = None) -> MaskBundle:
        """Raises Skipped where the method cannot do what is asked, and says so."""
        try:
            return prune(checkpoint or self.checkpoint(), self.recipe, out, quiet, quiet)
        except UserError as error:
            raise Skipped(str(error)) from None


@lru_cache(maxsize=64)
def _saved(family: str, dtype: torch.dtype, shard_size: str) -> Path:
    folder = TemporaryDirectory(prefix="prunesim-tiny-")
    atexit.register(folder.cleanup)
    return save(family, Path(folder.name) / family, dtype, shard_size)


@dataclass(frozen=True)
class Subject:
    """A method with its default settings, or those it states for trials, under each of its rules."""

    method: PruningMethod
    not_promised: Mapping[str, str]

    def recipe(self, sparsity: float = SPARSITY, rule: str = "", pattern: str = "", bits: int = 0) -> Recipe:
        made = Recipe(PruneConfig(), self.method, sparsity, rule or self.method.rules[0], model_id="tiny")
        if pattern:
            shape = parse_pattern(pattern)
            assert shape is not None
            made = replace(made, pattern=shape, sparsity=shape.sparsity)
        if bits:
            made = replace(made, quantization=Quantization(QUANTIZERS[self.method.default_quantizer](), bits, 8))
        return calibrated(made)

    def trial(self, family: str = "llama", rule: str = "", pattern: str = "", bits: int = 0) -> Trial:
        recipe = self.recipe(SPARSITY, rule, pattern, bits)
        asked = [pattern or rule, f"{bits} bits" if bits else ""]
        exact = "run" if pattern else self.exact or UNITS.get(recipe.rule, "")
        return Trial(", ".join([self.method.name, *filter(None, asked)]), recipe, exact, family)

    @property
    def exact(self) -> str:
        """What the class states to hold the target exactly, whatever its rule."""
        return getattr(self.method, "exact", EXACT.get(self.method.name, ""))


def calibrated(recipe: Recipe) -> Recipe:
    """With 5 sequences of 12 tokens where it needs any."""
    drawn = Calibration(token_ids(5, 12), "test") if recipe.needs_calibration else None
    return replace(recipe, calibration=drawn)


def subject_of(method: type[PruningMethod] | PruningMethod) -> Subject:
    made = method(**getattr(method, "trial_settings", {})) if isinstance(method, type) else method
    return Subject(made, dict(getattr(made, "not_promised", {})))


def rules(subject: Subject, seed: int, each: int) -> Iterator[Trial]:
    for family in FAMILIES:
        for rule in subject.method.rules:
            yield subject.trial(family, rule)


def patterns(subject: Subject, seed: int, each: int) -> Iterator[Trial]:
    for pattern in ("2:4", "1:4"):
        yield subject.trial("llama", pattern=pattern)


def plain(subject: Subject, seed: int, each: int) -> Iterator[Trial]:
    yield subject.trial(bits=0 if subject.method.prunes else 4)


def families(subject: Subject, seed: int, each: int) -> Iterator[Trial]:
    for family in FAMILIES:
        yield subject.trial(family)


def quantized(subject: Subject, seed: int, each: int) -> Iterator[Trial]:
    yield subject.trial(bits=4)


def both(subject: Subject, seed: int, each: int) -> Iterator[Trial]:
    if subject.method.prunes:
        yield from plain(subject, seed, each)
    yield from quantized(subject, seed, each)
