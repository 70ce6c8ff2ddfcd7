"""Texts as token ids in files, so that a benchmark of many runs tokenizes each of them once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TokenIds:
    """`tokenizer`: a model folder with it. Files are made in `folder` and found there again."""

    tokenizer: Path
    folder: Path

    def crops(self, calibration: str, samples: int, seq_len: int, seed: int) -> str:
        """What `prune` would draw from the text with this seed."""
        from pruning.data.calibration import read_calibration

        def drawn() -> Any:
            return read_calibration(calibration, self.tokenizer, samples, seq_len, seed).ids

        return self._file(f"{Path(calibration).stem}-{samples}x{seq_len}-seed-{seed}", drawn)

    def windows(self, text: str, seq_len: int, windows: int | None = None) -> str:
        """The first of a text, or all."""
        from pruning.data import calibration

        name = f"{Path(text).stem}-{windows or 'all'}x{seq_len}"
        return self._file(name, lambda: calibration.windows(text, self.tokenizer, seq_len, windows))

    def _file(self, name: str, made: Callable[[], Any]) -> str:
        import numpy as np

        from workloads.files import replacing

        file = self.folder / f"{name}.npy"
        if not file.exists():
            with replacing(file) as part, part.open("wb") as content:
                np.save(content, made().numpy())
        return str(file)
