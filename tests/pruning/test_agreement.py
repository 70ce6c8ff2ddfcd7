"""Models that predict no next token: how far a pruned one agrees with the unpruned, against transformers' own forward
of both as they are saved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.config import EvaluationConfig
from pruning.families import TRANSFORMERS
from pruning.forward.calls import first_output
from pruning.forward.feeding import arguments
from pruning.run.driver import prune
from pruning.saving.dense import save_pruned
from studies.evaluate import evaluate
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.errors import NotForThisModel


def inputs(family: str) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    if family == "vit":
        return {"pixel_values": torch.randn((10, 3, 28, 28), generator=draw)}
    if family == "whisper":
        return {"input_features": torch.randn((10, 8, 32), generator=draw), "decoder_input_ids": token_ids(10, 6)}
    return {"input_ids": token_ids(10, 12, seed=5)}


@pytest.mark.parametrize("family", ["bert", "t5", "whisper", "vit"])
def test_agreement_is_that_of_the_saved_models(family: str, tmp_path: Path) -> None:
    source, arrays = save(family, tmp_path / "model"), inputs(family)
    np.savez(tmp_path / "data.npz", **{name: value.numpy() for name, value in arrays.items()})
    bundle = prune(Checkpoint(source), recipe("magnitude", 0.7), tmp_path / "masks", quiet, quiet)
    save_pruned(source, bundle, tmp_path / "saved", quiet)
    asked = EvaluationConfig(text=str(tmp_path / "data.npz"))
    row = evaluate(Checkpoint(source), "tiny", bundle, asked, quiet).iloc[0]
    given = arguments(Checkpoint(source), arrays if family in ("vit", "whisper") else arrays["input_ids"])
    with torch.no_grad():
        one, other = (first_output(load_whole(folder)(**given)).argmax(-1) for folder in (source, tmp_path / "saved"))
    assert row["value"] == pytest.approx(float((one == other).double().mean()))
    assert (row["samples"], row["better"]) == (one.numel(), "higher")
    assert 0 < row["value"] < 1 or family == "vit"  # has two labels, of which random weights always take one
    assert np.isnan(row["perplexity"])
    assert evaluate(Checkpoint(source), "tiny", None, asked, quiet)["value"].item() == 1


def test_it_is_always_a_comparison(tmp_path: Path) -> None:
    checkpoint = Checkpoint(save("bert", tmp_path))
    with pytest.raises(NotForThisModel, match="leave `compare` out"):
        TRANSFORMERS.quality(checkpoint, None, EvaluationConfig(text="x.npz", compare=True), quiet)
