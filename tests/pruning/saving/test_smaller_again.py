"""What is pruned of a folder whose blocks have sizes of their own, saved as such a folder again."""

from pathlib import Path

import pytest
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from pruning.evaluation.whole_model import whole_model
from pruning.saving.dense import save_pruned
from pruning.saving.smaller import save_smaller
from tests.pruning.saving.removals import take_out, uneven
from tests.pruning.test_after import CLOSE, logits, plain
from tests.thinned import thinned
from validation.conformance.tiny_models import quiet, save
from workloads.errors import UserError


def smaller_folder(first: str, folder: Path, family: str = "llama") -> Path:
    source = save(family, folder / "model", num_hidden_layers=4)
    if first == "sub-layers":
        base = plain(source, folder / "base", method="blockpruner", sparsity=0.3, remove="attention")
    else:
        gone = frozenset({0}) if first == "units and a block" else frozenset[int]()
        base = take_out(source, folder / "base", uneven, gone, bias=True)
    save_smaller(source, base, folder / "smaller", quiet)
    assert (folder / "smaller" / "prunesim-removal.safetensors").is_file()
    return folder / "smaller"


MORE = {
    "masks": {"method": "magnitude", "sparsity": 0.5},
    "units": {"method": "magnitude-sp", "sparsity": 0.4},
    "units and biases": {"method": "flap", "sparsity": 0.4},
    "blocks": {"method": "shortgpt", "sparsity": 0.3},
    "sub-layers": {"method": "blockpruner", "sparsity": 0.3, "set": {"remove": "ffn"}},
}


@pytest.mark.parametrize(("first", "more"), thinned(["units", "units and a block", "sub-layers"], MORE, every=2))
def test_it_loads_as_what_was_pruned(first: str, more: str, tmp_path: Path) -> None:
    model = smaller_folder(first, tmp_path)
    bundle = plain(model, tmp_path / "masks", **MORE[more])
    wanted = logits(whole_model(Checkpoint(model), bundle))
    assert not torch.allclose(wanted, logits(ps.load_pruned(model)), **CLOSE)
    (save_smaller if bundle.is_smaller else save_pruned)(model, bundle, tmp_path / "again", quiet)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "again")), wanted, **CLOSE)


def test_and_once_more(tmp_path: Path) -> None:
    """Blocks that went twice have their old numbers in the file."""
    model = smaller_folder("units and a block", tmp_path)
    for number in range(2):
        bundle = plain(model, tmp_path / f"masks-{number}", method="shortgpt", sparsity=0.34)
        wanted = logits(whole_model(Checkpoint(model), bundle))
        save_smaller(model, bundle, tmp_path / f"saved-{number}", quiet)
        model = tmp_path / f"saved-{number}"
        torch.testing.assert_close(logits(ps.load_pruned(model)), wanted, **CLOSE)
    assert len(Checkpoint(model).blocks) == 1


def test_other_forms_are_refused_before_anything_runs(tmp_path: Path) -> None:
    model = smaller_folder("units", tmp_path)
    for asked in (
        {"method": "magnitude-sp", "sparsity": 0.5, "save_format": "padded"},
        {"method": "none", "bits": 4, "save_format": "packed"},
    ):
        with pytest.raises(UserError, match="of which only `dense` can be saved"):
            ps.prune(model, out=tmp_path / "out", save_model=tmp_path / "no", **asked)
        assert not (tmp_path / "out").exists()
