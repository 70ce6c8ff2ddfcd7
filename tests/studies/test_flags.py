"""Library rooms name settings in Python's words; only the command line spells flags."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("workloads", "checkpoints", "pruning", "simulator", "measurement", "reports", "studies", "prunesim")
FLAG = re.compile(r"(?:^|[\s\"'`]|(?<!var)\()--[a-z]")  # var(--ink) is a colour of a style sheet
OTHER_PROGRAMS = {"measurement/environment.py", "pruning/families/network.py"}  # nvidia-smi, pip


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String literals that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("room", ROOMS)
def test_no_message_of_a_library_room_spells_a_flag(room):
    found = []
    for file in sorted((ROOT / room).rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        if name.startswith("studies/cli/") or name in OTHER_PROGRAMS:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found += [f"{name}:{line}: {text}" for line, text in texts(tree) if FLAG.search(text)]
    assert not found
