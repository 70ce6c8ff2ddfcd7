"""What may become of a unit of a model, in words: "dense", "unstructured-48", "2:4", "bits:4", "2:4+bits:4"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workloads.errors import UserError, unknown
from workloads.patterns import DENSE, UNSTRUCTURED, NofM, parse_pattern

BITS = "bits"
HIGHEST = 0.875  # share of zeros at the top of the ladder
LEVELS = 15  # steps of 1/16: where rows of power-of-two lengths fill lanes evenly, machines have their steps


@dataclass(frozen=True)
class Choice:
    """`zeros`: the share of an unstructured mask, 0: none; `pattern`: N:M in its place; `bits` of a weight, None: as
    they are."""

    zeros: float = 0.0
    pattern: NofM | None = None
    bits: int | None = None

    @property
    def sparsity(self) -> float:
        return self.zeros if self.pattern is None else self.pattern.sparsity

    @property
    def is_masked(self) -> bool:
        return self.sparsity > 0

    def __str__(self) -> str:
        mask = str(self.pattern) if self.pattern else f"{UNSTRUCTURED}-{100 * self.zeros:g}" if self.zeros else ""
        parts = [part for part in (mask, f"{BITS}:{self.bits}" if self.bits else "") if part]
        return "+".join(parts) or DENSE


UNTOUCHED = Choice()


def parse_choice(text: str) -> Choice:
    """Raises UserError."""
    if text == DENSE:
        return UNTOUCHED
    zeros, pattern, bits = 0.0, None, None
    for part in text.split("+"):
        if match := re.fullmatch(rf"{UNSTRUCTURED}-([0-9]{{1,2}}(?:\.[0-9]{{1,6}})?)", part):
            zeros = float(match[1]) / 100
        elif match := re.fullmatch(rf"{BITS}:([2-8])", part):
            bits = int(match[1])
        elif ":" in part:
            pattern = parse_pattern(part)
        else:
            raise unknown("choice", part, (DENSE, f"{UNSTRUCTURED}-50", "2:4", f"{BITS}:4"))
    if zeros and pattern:
        raise UserError(f"choice {text!r} has two masks; leave one out")
    return Choice(zeros, pattern, bits)


def choices_of(kinds: Sequence[str], levels: int = LEVELS) -> list[Choice]:
    """The choices that kinds stand for: "unstructured" a ladder of `levels` sparsities, 0 first and HIGHEST last, N:M
    and bits:B one each; every mask with every number of bits. Raises UserError for a kind that is none."""
    if levels < 2:
        raise UserError(f"`levels` {levels}: at least 2, dense and one more")
    masks: list[Choice] = [UNTOUCHED]
    widths: list[int | None] = [None]
    for kind in kinds:
        if kind == UNSTRUCTURED:
            steps = (round(HIGHEST * step / (levels - 1), 4) for step in range(1, levels))
            masks += [Choice(zeros) for zeros in steps]
            continue
        if "+" in kind or ":" not in kind:
            raise unknown("kind of choice", kind, (UNSTRUCTURED, "2:4", f"{BITS}:4"))
        one = parse_choice(kind)
        if one.bits:
            widths.append(one.bits)
        else:
            masks.append(one)
    made = [Choice(mask.zeros, mask.pattern, bits) for bits in widths for mask in masks]
    return list(dict.fromkeys(made))
