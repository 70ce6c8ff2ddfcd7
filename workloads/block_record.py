"""What a method says of one block that it pruned, beside the masks: a mask bundle keeps it."""

from dataclasses import dataclass, field

Fact = int | float | str
DIGITS = 6  # of a float


@dataclass(frozen=True)
class BlockRecord:
    """facts by name, as `besa` gives them: {"budgets": "learned", "steps": 96, ...}. Texts say which of a few ways was
    taken."""

    block: int
    facts: dict[str, Fact] = field(default_factory=dict)


def rounded(facts: dict[str, Fact]) -> dict[str, Fact]:
    return {name: float(f"{x:.{DIGITS}g}") if isinstance(x, float) else x for name, x in facts.items()}


def ways_taken(records: list[BlockRecord]) -> list[str]:
    """One sentence a text fact: ["budgets: learned in 28 of 30 blocks, even in 2 of 30 blocks (3, 7)"]."""
    sentences = []
    for name in dict.fromkeys(n for record in records for n, fact in record.facts.items() if isinstance(fact, str)):
        blocks: dict[str, list[int]] = {}
        for record in records:
            if name in record.facts:
                blocks.setdefault(str(record.facts[name]), []).append(record.block)
        parts, of = list[str](), sum(map(len, blocks.values()))
        for way, numbers in sorted(blocks.items(), key=lambda pair: -len(pair[1])):
            named = f" ({', '.join(map(str, numbers))})" if parts else ""
            parts.append(f"{way} in {len(numbers)} of {of} blocks{named}")
        sentences.append(f"{name}: {', '.join(parts)}")
    return sentences
