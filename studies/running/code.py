"""The code that makes a result, as a part of what the result was made from."""

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

KINDS = (".py", ".toml", ".json")

SIMULATING = ("workloads", "checkpoints", "simulator")
PRUNING = ("workloads", "checkpoints", "pruning")


@lru_cache
def code_sha256(rooms: tuple[str, ...]) -> str:
    """Hash of every source file, preset and catalog entry of the rooms; what others install is told apart by
    nothing."""
    digest = hashlib.sha256()
    for room in rooms:
        spec = find_spec(room)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(path for path in Path(folder).rglob("*") if path.suffix in KINDS):
                content = file.read_bytes()
                digest.update(f"{room}/{file.relative_to(folder).as_posix()}:{len(content)}:".encode() + content)
    return digest.hexdigest()
