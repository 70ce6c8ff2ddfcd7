"""What a page's filters go by: the model, machine, method, pattern and phase of a line, as far as its columns say."""

from collections.abc import Sequence

import pandas as pd

from reports.words.naming import asked_text, phase_text

FACETS = ("model", "machine", "method", "pattern", "phase")
_UNPRUNED = ("dense", "")  # shown whatever method and pattern are chosen


class Facets:
    """The values of every facet in order of appearance on the page."""

    def __init__(self) -> None:
        self.values: list[list[str]] = [[] for _ in FACETS]

    def codes(self, frame: pd.DataFrame) -> list[list[int] | None]:
        """Of each facet the number of each line's value, -1 for none; None where no line has any."""
        return [self._coded(number, texts) for number, texts in enumerate(_texts(frame))]

    def of_lines(self, frame: pd.DataFrame) -> list[str]:
        """For each line its numbers, comma separated, nothing for none; "" for a line that no filter concerns."""
        codes = self.codes(frame)
        if not any(codes):
            return [""] * len(frame)
        columns = [code if code is not None else [-1] * len(frame) for code in codes]
        return [",".join("" if code < 0 else str(code) for code in line) for line in zip(*columns, strict=True)]

    def _coded(self, number: int, texts: Sequence[str] | None) -> list[int] | None:
        if texts is None:
            return None
        known = {text: place for place, text in enumerate(self.values[number])}
        for text in dict.fromkeys(texts):
            if text and text not in known:
                known[text] = len(known)
        self.values[number] = list(known)
        codes = [known.get(text, -1) for text in texts]
        return codes if any(code >= 0 for code in codes) else None


def _texts(frame: pd.DataFrame) -> list[Sequence[str] | None]:
    count = len(frame)
    methods = _column(frame, "method")
    patterns = _patterns(frame)
    if methods is not None:
        unpruned = [method in _UNPRUNED for method in methods]
        methods = ["" if plain else method for plain, method in zip(unpruned, methods, strict=True)]
        if patterns is not None:
            patterns = ["" if plain else text for plain, text in zip(unpruned, patterns, strict=True)]
    phases = None
    if "tokens" in frame and count:
        said = {tokens: phase_text(tokens) for tokens in frame["tokens"].dropna().unique()}
        phases = ["" if pd.isna(tokens) else said[tokens] for tokens in frame["tokens"]]
    return [_column(frame, "model"), _column(frame, "target"), methods, patterns, phases]


def _column(frame: pd.DataFrame, name: str) -> list[str] | None:
    return None if name not in frame else ["" if pd.isna(value) else str(value) for value in frame[name]]


def _patterns(frame: pd.DataFrame) -> list[str] | None:
    if not {"pattern", "target_sparsity"} <= set(frame.columns):
        return None
    pairs = list(zip(frame["pattern"], frame["target_sparsity"], strict=True))
    said = {
        (pattern, asked if pd.notna(asked) else None): asked_text({"pattern": pattern, "target_sparsity": asked})
        for pattern, asked in pairs
        if pd.notna(pattern)
    }
    return ["" if pd.isna(p) else said[p, asked if pd.notna(asked) else None] for p, asked in pairs]
