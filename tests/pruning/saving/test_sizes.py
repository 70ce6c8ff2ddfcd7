"""Parameters, bytes and KV cache before and after, against sums by hand and against the model that is loaded."""

from pathlib import Path

import pytest
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from pruning.saving.sizes import sizes
from pruning.saving.smaller import save_smaller
from tests.pruning.saving.removals import even, take_out, uneven
from validation.conformance.tiny_models import VOCAB, load_whole, quiet, save


def test_llama_by_hand(tmp_path: Path) -> None:
    """2 blocks, hidden 32, 4 heads of 8, 2 kv heads, 48 neurons, bfloat16; half of all units go."""
    source = save("llama", tmp_path / "model", torch.bfloat16)
    found = sizes(Checkpoint(source), take_out(source, tmp_path / "bundle", even, masked=True))
    attention, ffn = 2 * 32 * 32 + 2 * 32 * 16, 3 * 32 * 48
    around = 2 * VOCAB * 32 + 32 + 2 * 2 * 32  # embeddings, head, norms
    before, after = 2 * (attention + ffn), 2 * (attention + ffn) // 2
    assert (found.before.parameters, found.after.parameters) == (before + around, after + around)
    assert (found.before.weight_bytes, found.after.weight_bytes) == (2 * (before + around), 2 * (after + around))
    assert (found.before.kv_bytes, found.after.kv_bytes) == (2 * 2 * 2 * 2 * 8, 2 * 2 * 2 * 8)
    zeros = 2 * sum(-(-n // 3) for n in (32 * 16, 32 * 16, 32 * 8, 32 * 8, 32 * 24, 32 * 24, 32 * 24))
    assert found.matrix_sparsity == pytest.approx(1 - (after - zeros) / before)
    assert found.sparsity == pytest.approx(1 - (after + around - zeros) / (before + around))


@pytest.mark.parametrize(
    ("family", "bias"),
    [("llama-tied", False), ("gpt2", True), ("phi3", False), ("phi3", True), ("qwen2", True), ("mixtral", True),
     ("gpt_oss", False)],
)  # fmt: skip
def test_counts_are_those_of_the_loaded_model(family: str, bias: bool, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model")
    left = uneven if family != "gpt_oss" else lambda kind, block, count: count if kind == "kv_group" else count // 2
    bundle = take_out(source, tmp_path / "bundle", left, frozenset({1}), bias=bias)
    found = sizes(Checkpoint(source), bundle)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    for folder, size in ((source, found.before), (tmp_path / "saved", found.after)):
        model = load_whole(source) if folder == source else ps.load_pruned(folder)
        assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert size.weight_bytes == 4 * size.parameters
