"""Prefill, decode and generate: how many tokens pass through a model together, behind how many others."""

from dataclasses import dataclass
from typing import Literal

from workloads.errors import UserError


@dataclass(frozen=True)
class Phase:
    """`batch` sequences get `new` tokens each, after `past` that are in the KV cache already."""

    name: Literal["prefill", "decode"]
    batch: int
    new: int
    past: int

    def __post_init__(self) -> None:
        if self.batch < 1 or self.new < 1 or self.past < 0:
            raise UserError(
                f"{self.name}: batch {self.batch}, {self.new} new tokens after {self.past}; at least 1, 1 and 0 are "
                "needed"
            )

    @property
    def tokens(self) -> int:
        """That pass through each linear together."""
        return self.batch * self.new

    @property
    def context(self) -> int:
        """Keys that a sequence's last token sees."""
        return self.past + self.new


@dataclass(frozen=True)
class Generation:
    """`batch` prompts of `prompt` tokens, each continued by `new`. Prefill gives the first of them, so decode takes
    `new` - 1 steps, the first of which sees `prompt` + 1 keys."""

    batch: int
    prompt: int
    new: int

    def __post_init__(self) -> None:
        if self.batch < 1 or self.prompt < 1 or self.new < 1:
            raise UserError(
                f"generate: batch {self.batch}, prompts of {self.prompt} tokens, {self.new} new ones; at least 1 of "
                "each is needed"
            )

    @property
    def prefill(self) -> Phase:
        return Phase("prefill", self.batch, self.prompt, 0)

    @property
    def contexts(self) -> range:
        """Keys that the decode steps see, one step each."""
        return range(self.prompt + 1, self.prompt + self.new)

    @property
    def context(self) -> int:
        """Entries of the KV cache at the end."""
        return self.prompt + self.new - 1


def prefill(batch: int, seq: int, past: int = 0) -> Phase:
    """All `seq` tokens of each sequence at once; with `past`, a later chunk. Raises UserError for none."""
    return Phase("prefill", batch, seq, past)


def decode(batch: int, context: int) -> Phase:
    """One token a sequence, which sees `context` keys, its own among them. Raises UserError for none."""
    return Phase("decode", batch, 1, context - 1)


def generate(batch: int, prompt: int, new: int) -> Generation:
    """A prefill and the decode steps behind it. Raises UserError for none."""
    return Generation(batch, prompt, new)
