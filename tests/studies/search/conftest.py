"""A study that searches tiny shapes: a moment for all its designs."""

from pathlib import Path

import pytest

SHAPES = (
    '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, '
    '"num_attention_heads": 2}'
)
STUDY = """
title = "S"
[[models]]
name = "s"
shapes = "s.json"
[search]
on = "vitcod"
tokens = 16
objectives = ["latency_us", "area_mm2"]
{more}
[search.machine]
array.width = [16, 64]
array.height = "16:64:x2"
buffers.weight_kib = [0.001, 53.0]
{machine}
[search.pruning]
method = "generated"
target = [0.5, "2:4"]
{pruning}
"""


@pytest.fixture
def written(tmp_path):
    """A function: what a study says more of [search] and its tables -> its file."""
    (tmp_path / "s.json").write_text(SHAPES)

    def write(more: str = "", machine: str = "", pruning: str = "", change: tuple[str, str] = ("", "")) -> Path:
        file = tmp_path / "study.toml"
        file.write_text(STUDY.format(more=more, machine=machine, pruning=pruning).replace(*change))
        return file

    return write
