"""What a model, its masks, a configuration is called, and how several values are listed: the same in every sentence."""

import re
from collections.abc import Iterable

import pandas as pd

from reports.words.settings import settings_text

_LISTED = 8  # values a line lists before it only counts them
DECODE_TOKENS = 64  # at most so many: one token of each sequence of a batch


def listing(values: Iterable) -> str:
    """Different values in order of appearance, comma separated."""
    return ", ".join(_different(values))


def _different(values: Iterable) -> list[str]:
    if isinstance(values, pd.Series):
        values = values.unique()
    return list(dict.fromkeys(str(value) for value in values if not pd.isna(value) and value != ""))


def few(values: Iterable, what: str) -> str:
    """As `listing`, but only how many there are where they are too many to read."""
    different = _different(values)
    return ", ".join(different) if len(different) <= _LISTED else counted_only(len(different), what)


def counted_only(count: int, what: str) -> str:
    return f"{count:,} different {what}; rows.csv has them"


def many(count: int) -> bool:
    """Whether so many values are too many for a line."""
    return count > _LISTED


def tokens_text(tokens: object) -> str:
    if pd.isna(tokens):
        return "tokens not given"
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def config_text(key: dict) -> str:
    """ "model, target with key=value (cycle level), 512 tokens": the heading of everything that may be compared;
    without tokens where the key has none."""
    settings = f" with {settings_text(key['settings'])}" if key["settings"] else ""
    dense = key["activation_density"]
    activations = f", {100 * dense:g} % of activations nonzero" if dense < 1 else ""
    level = f" ({key['level']} level)" if key["level"] else ""
    source = f", {key['source']}" if key["source"] not in ("", "simulated") else ""
    tokens = f", {tokens_text(key['tokens'])}" if "tokens" in key else ""
    return f"{key['model']}, {key['target']}{settings}{level}{source}{tokens}{activations}"


def phase_text(tokens: object) -> str:
    """ "decode" or "prefill"; "" where the tokens are not given."""
    return "" if pd.isna(tokens) else "decode" if tokens <= DECODE_TOKENS else "prefill"  # type: ignore[operator]


def asked_text(key: dict) -> str:
    """ "2:4", "50 %": what was asked of a method; the pattern where no sparsity was."""
    asked = key["target_sparsity"]
    return key["pattern"] if pd.isna(asked) or ":" in key["pattern"] else f"{100 * asked:g} %"


def run_text(key: dict) -> str:
    """ "wanda 50 %": a method and what was asked of it."""
    return f"{key['method']} {asked_text(key)}".strip()


def place_text(key: dict) -> str:
    """ "vitcod, 512 tokens": where something ran, in as few words as tell it apart."""
    settings = f" {settings_text(key['settings'], 30)}" if key["settings"] else ""
    dense = key["activation_density"]
    inputs = f", {100 * dense:g} % inputs" if dense < 1 else ""
    source = f", {key['source']}" if key["source"] in ("measured", "published") else ""
    return f"{key['target']}{settings}, {tokens_text(key['tokens'])}{inputs}{source}"


def masks_text(key: dict) -> str:
    """ "tiny, wanda 2:4", "tiny, wanda 50 %": a model and what made its masks."""
    return f"{key['model']}, {run_text(key)}"


def evaluation_text(key: dict) -> str:
    return f"{key['text'] or 'a text without a name'}, {key['windows']} windows of {key['seq_len']} tokens"


def slug(text: str) -> str:
    """A file name that every system accepts and that cannot leave the folder."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[-100:] or "unnamed"
