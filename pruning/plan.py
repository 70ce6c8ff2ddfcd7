"""A plan: what every matrix of a model gets, by name; those that it does not name stay as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.choices import UNTOUCHED, Choice, parse_choice
from workloads.errors import NotForThisModel, UserError
from workloads.files import pretty_json, read_json, write_text
from workloads.layers import Layer


@dataclass(frozen=True)
class Plan:
    """`choices`: of the matrices that are changed."""

    choices: Mapping[str, Choice]

    @classmethod
    def of(cls, choices: Mapping[str, Choice]) -> "Plan":
        """Raises UserError where every matrix stays as it is."""
        changed = {name: choice for name, choice in choices.items() if choice != UNTOUCHED}
        if not changed:
            raise UserError("the plan leaves every matrix as it is; there is nothing to prune")
        return cls(changed)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Raises UserError for a file that is none."""
        content = read_json(path, "plan")
        if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
            raise UserError(f'plan: {path} is no object of names and choices, as {{"NAME": "unstructured-48"}}')
        return cls.of({name: parse_choice(text) for name, text in content.items()})

    def write(self, path: Path) -> None:
        write_text(path, pretty_json(self.facts))

    @property
    def facts(self) -> dict[str, str]:
        return {name: str(choice) for name, choice in self.choices.items()}

    @property
    def bits(self) -> int | None:
        """The most that a matrix is quantized to, None: none is."""
        return max((choice.bits for choice in self.choices.values() if choice.bits), default=None)

    @property
    def highest(self) -> float:
        """Sparsity of a matrix."""
        return max(choice.sparsity for choice in self.choices.values())

    def check(self, layers: Sequence[Layer]) -> None:
        """Raises NotForThisModel for a matrix that the model has not, and a pattern that does not divide its inputs."""
        known = {layer.name: layer for layer in layers}
        for name, choice in self.choices.items():
            if name not in known:
                raise NotForThisModel(
                    f"the plan names {name}, which this model has not; its first matrix is {layers[0].name}"
                )
            if choice.pattern is not None:
                choice.pattern.check_divides(known[name].in_features, name)
