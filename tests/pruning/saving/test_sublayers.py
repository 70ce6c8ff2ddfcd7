"""Models without some of their attentions and FFNs: equal logits in every form, and what is said of them."""

from pathlib import Path

import pytest
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import find_refs
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from pruning.saving.sizes import sizes
from pruning.saving.smaller import save_smaller
from studies.masks import contents_text
from studies.simulate import bundle_source
from tests.pruning.recipes import recipe
from tests.pruning.saving.sublayers import silenced_logits
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.bundle import SUBLAYER_VERSION, MaskBundle
from workloads.errors import UserError
from workloads.files import read_json

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
IDS = token_ids(2, 12)
# Biases and tied heads; transposed storage; experts; norms behind sub-layers; sinks; parallel attention; a mixer.
FAMILIES = ["llama-tied", "gpt2", "mixtral", "gemma2", "gpt_oss", "falcon-alibi", "falcon_h1"]


def made(family: str, tmp_path: Path, remove: str = "sublayers") -> tuple[Path, MaskBundle]:
    source = save(family, tmp_path / "model")
    chosen = recipe("blockpruner", 0.4, remove=remove)
    return source, prune(Checkpoint(source), chosen, tmp_path / "bundle", quiet, quiet)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("remove", ["attention", "ffn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_silenced_reloaded_and_padded_give_equal_logits(family: str, remove: str, tmp_path: Path) -> None:
    source, bundle = made(family, tmp_path, remove)
    assert bundle.removal.sublayers
    wanted = silenced_logits(source, bundle, IDS)
    assert not torch.allclose(wanted, logits(load_whole(source)), **CLOSE)
    assert "not for AutoModel" in save_smaller(source, bundle, tmp_path / "saved", quiet)
    small = ps.load_pruned(tmp_path / "saved")
    torch.testing.assert_close(logits(small), wanted, **CLOSE)
    cached, not_cached = (
        small.generate(IDS[:1], max_new_tokens=5, do_sample=False, use_cache=use) for use in (True, False)
    )
    assert torch.equal(cached, not_cached)
    save_smaller(source, bundle, tmp_path / "padded", quiet, padded=True)
    torch.testing.assert_close(logits(load_whole(tmp_path / "padded")), wanted, **CLOSE)
    by_bundle = perplexity(Checkpoint(source), IDS, bundle, quiet)
    assert perplexity(Checkpoint(tmp_path / "saved"), IDS, None, quiet) == pytest.approx(by_bundle, rel=1e-5)


def test_the_files_hold_nothing_of_it(tmp_path: Path) -> None:
    source, bundle = made("llama", tmp_path, "attention")
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    (path,) = bundle.removal.sublayers
    saved = Checkpoint(tmp_path / "saved")
    assert not [name for name in saved.sources if name.startswith(f"{path}.")]
    assert any(name.startswith(path.rpartition(".")[0]) for name in saved.sources)
    before = {name: data for name, data in contents(tmp_path / "saved").items() if name.endswith(".safetensors")}
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    assert {name: contents(tmp_path / "saved")[name] for name in before} == before


def test_counts(tmp_path: Path) -> None:
    """Layers, sizes and keys and values are those of what is left."""
    source, bundle = made("llama", tmp_path, "attention")
    bundle.validate()
    (path,) = bundle.removal.sublayers
    refs = [ref for block in find_refs(Checkpoint(source).model) for ref in block]
    gone = [ref.layer for ref in refs if ref.layer.name.startswith(f"{path}.")]
    assert [entry.name for entry in bundle.gone] == [layer.name for layer in gone]
    lost = sum(layer.n_weights for layer in gone)
    assert bundle.sparsity == pytest.approx(lost / sum(ref.layer.n_weights for ref in refs))
    found = sizes(Checkpoint(source), bundle)
    assert found.before.parameters - found.after.parameters == lost
    assert found.after.kv_bytes * 2 == found.before.kv_bytes
    assert bundle.removal.words == "1 sub-layer"
    assert contents_text(bundle) == f"{len(bundle)} layers without 1 sub-layer, sparsity {bundle.sparsity:.4f}"


def test_progress_counts_what_is_gone(tmp_path: Path) -> None:
    """Rows of layers that were taken out are rows too."""
    _, bundle = made("llama", tmp_path)
    source = bundle_source(bundle)
    assert source.count == len(list(source.operations)) > len(bundle)


def test_the_bundle_says_its_version_from_the_first_byte(tmp_path: Path) -> None:
    _, bundle = made("llama", tmp_path)
    assert read_json(bundle.folder / "bundle.json", "bundle")["version"] == SUBLAYER_VERSION
    again = MaskBundle.open(bundle.folder)
    assert again.removal.sublayers == bundle.removal.sublayers


def test_another_model_has_no_such_sublayer(tmp_path: Path) -> None:
    source, bundle = made("llama", tmp_path, "attention")
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    other = save("gpt2", tmp_path / "other")
    (tmp_path / "saved" / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(UserError, match="which was taken out, is not in this model"):
        ps.load_pruned(tmp_path / "saved")
