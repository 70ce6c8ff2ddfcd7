"""What is known of designs: a line of JSON each, added as soon as it is known, so that nothing is run twice."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from workloads.errors import UserError
from workloads.files import canonical_json

Found = dict[str, Any]  # {"figures": {name: number}} or {"reason": text}


class DesignLog:
    """By the hash of all that a design's figures follow from. A line that a kill cut off is not read, and not lost on
    the lines that follow it."""

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[str, Found] = {}
        self._whole = True
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            self._whole = content.endswith(b"\n") or not content
            for line in content.splitlines():
                self._read(line)

    def _read(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if isinstance(entry["figures"], dict) or isinstance(entry["reason"], str):
                self._known[entry["key"]] = {name: entry[name] for name in ("figures", "reason")}

    def get(self, key: str) -> Found | None:
        return self._known.get(key)

    def add(self, found: Mapping[str, Found]) -> None:
        """Raises UserError where the file cannot be written."""
        lines = [canonical_json({"key": key, "figures": None, "reason": None} | each) for key, each in found.items()]
        start = "" if self._whole else "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(start + "".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}; free some space") from None
        self._whole = True
        self._known |= found
