"""What a page's filters go by: the model, machine, method, pattern and phase of a line, as far as its columns say."""

from collections.abc import Callable

import numpy as np
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

    def _coded(self, number: int, found: tuple[np.ndarray, list[str]] | None) -> list[int] | None:
        """found: (of each line the number of its text or -1, the texts in order of appearance)."""
        if found is None:
            return None
        codes, texts = found
        known = {text: place for place, text in enumerate(self.values[number])}
        for text in texts:
            if text and text not in known:
                known[text] = len(known)
        self.values[number] = list(known)
        places = np.array([known.get(text, -1) for text in texts] + [-1], dtype=np.intp)
        lines = places[codes]
        return lines.tolist() if (lines >= 0).any() else None


def _texts(frame: pd.DataFrame) -> list[tuple[np.ndarray, list[str]] | None]:
    methods, patterns = _column(frame, "method"), _patterns(frame)
    if methods is not None:
        codes, names = methods
        names = ["" if name.split(" ")[0] in _UNPRUNED else name for name in names]  # "dense fp16"
        plain = np.array([name == "" for name in names] + [True])[codes]
        methods = codes, names
        patterns = None if patterns is None else (np.where(plain, -1, patterns[0]), patterns[1])
    phases = _column(frame, "phase") if "phase" in frame else _column(frame, "tokens", phase_text)
    return [_column(frame, "model"), _column(frame, "target"), methods, patterns, phases]


def _column(frame: pd.DataFrame, name: str, said: Callable[[object], str] = str) -> tuple[np.ndarray, list[str]] | None:
    if name not in frame:
        return None
    codes, values = pd.factorize(frame[name])
    return codes, [said(value) for value in values]


def _patterns(frame: pd.DataFrame) -> tuple[np.ndarray, list[str]] | None:
    if not {"pattern", "target_sparsity"} <= set(frame.columns):
        return None
    codes = frame.groupby(["pattern", "target_sparsity"], sort=False, dropna=False).ngroup().to_numpy()
    first = frame[["pattern", "target_sparsity"]].iloc[np.unique(codes, return_index=True)[1]]
    return codes, ["" if pd.isna(key["pattern"]) else asked_text(key) for key in first.to_dict("records")]
