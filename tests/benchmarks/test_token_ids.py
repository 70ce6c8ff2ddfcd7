"""Token ids in files: those that a text itself would give, made once."""

from pathlib import Path

import pytest
import torch

import prunesim as ps
from benchmarks.token_ids import TokenIds
from pruning.data import calibration

DEMO = Path(__file__).parents[2] / "examples" / "demo-model"
TEXT, OTHER = (str(DEMO / f"{name}.txt") for name in ("calibration", "evaluation"))


def test_crops_are_those_of_their_seed_and_read_once(tmp_path, monkeypatch):
    ids = TokenIds(DEMO, tmp_path)
    drawn = [ids.crops(TEXT, samples=4, seq_len=32, seed=seed) for seed in (1, 2)]
    for seed, file in zip((1, 2), drawn, strict=True):
        ours = calibration.read_calibration(file, DEMO, None, None, 9).ids
        assert torch.equal(ours, calibration.read_calibration(TEXT, DEMO, 4, 32, seed).ids)
    monkeypatch.setattr(calibration, "tokenize", None)
    assert ids.crops(TEXT, samples=4, seq_len=32, seed=2) == drawn[1]


def test_windows_evaluate_as_their_text_and_all_of_them_are_its_tokens(tmp_path):
    ids = TokenIds(DEMO, tmp_path)
    some, every = ids.windows(OTHER, 64, 3), ids.windows(OTHER, 64)
    found = [
        ps.evaluate(DEMO, **asked).frame for asked in ({"text": some}, {"text": OTHER, "seq_len": 64, "windows": 3})
    ]
    assert found[0]["perplexity"][0] == pytest.approx(found[1]["perplexity"][0], rel=1e-12)
    assert torch.equal(calibration.windows(every, DEMO, None, None), calibration.windows(OTHER, DEMO, 64, None))
    assert len(calibration.windows(some, DEMO, None, None)) == 3
