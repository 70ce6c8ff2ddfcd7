"""OWL's sparsities for a plan: those that `allocation=owl` gives, from one pass over the calibration set."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pruning.config import PruneConfig
from pruning.data.calibration import Calibration
from pruning.run.driver import prune
from studies.progress import Silent
from studies.prune import open_checkpoint, recipe_for
from studies.speed import outliers
from studies.speed.outliers import owl_shares
from workloads.cost_table import Unit


def silent(text: str) -> None:
    pass


def test_the_sparsities_are_those_of_the_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # outliers of different number in each block
        for n, block in enumerate(model.model.layers):
            block.mlp.up_proj.weight[: 10 * n] *= 20
    model.save_pretrained(tmp_path / "model")
    opened = partial(open_checkpoint, str(tmp_path / "model"), "float32")
    calibration = Calibration(torch.from_numpy(np.random.default_rng(0).integers(0, 100, (4, 32))), "drawn")
    recipe = recipe_for("m", opened(), PruneConfig("wanda", sparsity=0.6, allocation="owl"), calibration)
    masks = prune(opened(), recipe, tmp_path / "masks", Silent(), silent)
    units = [
        Unit(f"{b} {n}", tuple(e.name for e in masks.layers if e.layer.block == b and n in e.name), 1)
        for b in range(3)
        for n in ("self_attn", "mlp")
    ]
    plain = recipe_for("m", opened(), PruneConfig("wanda", sparsity=0.5), calibration)
    shares = owl_shares(opened, plain, units, tmp_path, Silent())
    own = {entry.name: entry.sparsity for entry in masks.layers}
    for unit, share in zip(units, shares(0.6), strict=True):
        assert [own[name] for name in unit.layers] == pytest.approx([share] * len(unit.layers), abs=0.001)
    assert np.ptp(shares(0.6)) > 0.1
    monkeypatch.setattr(outliers, "outlier_ratios", None)  # they are kept
    assert (owl_shares(opened, plain, units, tmp_path, Silent())(0.6) == shares(0.6)).all()
