"""Units taken out of what an earlier bundle leaves: one bundle of the whole model, whichever way it is looked at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_biases, read_weight
from pruning.evaluation.whole_model import whole_model
from pruning.methods import METHODS
from pruning.methods.structured.method import StructuredMethod
from pruning.run import over_blocks, structured
from pruning.saving.smaller import save_smaller
from tests.pruning.saving.removals import even, masked_logits, take_out, uneven
from tests.pruning.test_after import CLOSE, FAMILIES, IDS, MAGNITUDE, after, logits, plain
from validation.conformance.tiny_models import contents, quiet, save
from workloads.bundle import MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.removal import NEURON
from workloads.steps import steps

STRUCTURED = {name: made for name, made in METHODS.items() if issubclass(made, StructuredMethod)}
OF_UNITS = {name: dict(made.trial_settings) for name, made in STRUCTURED.items() if made().kinds}


def check(source: Path, base: MaskBundle, bundle: MaskBundle, folder: Path) -> None:
    """Logits of the run model, of the saved one and of the whole one with features at zero; nothing comes back."""
    bundle.validate()
    wanted = masked_logits(source, bundle, IDS)
    torch.testing.assert_close(logits(whole_model(Checkpoint(source), bundle)), wanted, **CLOSE)
    save_smaller(source, bundle, folder, quiet)
    torch.testing.assert_close(logits(ps.load_pruned(folder)), wanted, **CLOSE)
    assert [entry.name for entry in bundle.entries] == [entry.name for entry in base.entries]
    before = {each.key: each.kept for each in base.removal.units}
    for each in bundle.removal.units:
        assert not (each.kept & ~before.get(each.key, each.kept)).any()
    for old, new in zip(base.entries, bundle.entries, strict=True):
        assert new.unpruned == old.unpruned


@pytest.mark.parametrize("method", ["flap", "obs-sp"])
@pytest.mark.parametrize("family", FAMILIES)
def test_units_after_units(family: str, method: str, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model", **FAMILIES[family])
    base = take_out(source, tmp_path / "base", uneven, bias=family != "mixtral")
    bundle = after(source, base, tmp_path / "out", method=method, sparsity=0.4)
    assert bundle.sparsity > base.sparsity
    check(source, base, bundle, tmp_path / "saved")
    assert read_biases(base).keys() <= read_biases(bundle).keys()


@pytest.mark.parametrize("method", OF_UNITS)
def test_it_is_what_pruning_the_saved_smaller_model_gives(method: str, tmp_path: Path) -> None:
    """The plain checkpoint of what the base leaves, pruned as any other: the same units, weights and biases."""
    source = save("llama", tmp_path / "model", intermediate_size=64)
    base = take_out(source, tmp_path / "base", even, bias=True)
    save_smaller(source, base, tmp_path / "smaller", quiet)
    settings = {"method": method, "sparsity": 0.4, "set": OF_UNITS[method]}
    found = after(source, base, tmp_path / "out", **settings)
    wanted = plain(tmp_path / "smaller", tmp_path / "wanted", **settings)
    before = {each.key: each.kept for each in base.removal.units}
    for each in found.removal.units:
        alone = next((other.kept for other in wanted.removal.units if other.key == each.key), None)
        kept = each.kept[before[each.key]]
        assert np.array_equal(kept, np.ones_like(kept) if alone is None else alone)
    for one, other in zip(found.layers, wanted.layers, strict=True):
        assert (one.name, one.layer) == (other.name, other.layer)
        own, alone = read_weight(found, one.name), read_weight(wanted, one.name)
        assert (own is None) == (alone is None)
        assert own is None or torch.equal(own, alone)
    biases, alone = read_biases(found), read_biases(wanted)
    assert all(torch.equal(biases[name], bias) for name, bias in alone.items())
    check(source, base, found, tmp_path / "saved")


def test_neurons_then_heads_are_exact_and_keep_trained_weights(tmp_path: Path) -> None:
    """Half of the neurons with new weights, then half of what is left: a quarter; then heads, which no step took."""
    source = save("llama", tmp_path / "model", intermediate_size=64)
    first = plain(source, tmp_path / "1", method="obs-sp", sparsity=0.5, units="ffn")
    second = after(source, first, tmp_path / "2", method="magnitude-sp", sparsity=0.5, units="ffn")
    third = after(source, second, tmp_path / "3", method="wanda-sp", sparsity=0.5, units="heads")
    assert steps(third.header) == ["obs-sp 50 %", "magnitude-sp 50 %", "wanda-sp 50 %"]
    neurons = {each.module: each.kept for each in third.removal.units if each.kind == NEURON}
    assert [int(kept.sum()) for kept in neurons.values()] == [16, 16]
    for name, cut in second.removal.cuts.items():
        if name.endswith("down_proj"):
            own = read_weight(first, name)[:, torch.from_numpy(cut.cols[first.removal.cuts[name].cols])]
            assert torch.equal(read_weight(second, name), own)
            assert torch.equal(read_weight(third, name), own)
    check(source, second, third, tmp_path / "saved")


@pytest.mark.parametrize(
    "order",
    [("flap", "shortgpt"), *(("shortgpt", name) for name in ("flap", "taylor-sp", "evolution", "shortgpt"))],
    ids="-".join,
)
def test_blocks_and_units_in_turn(order: tuple[str, str], tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=5)
    base = plain(source, tmp_path / "base", method=order[0], sparsity=0.4)
    settings = dict(STRUCTURED[order[1]].trial_settings)
    bundle = after(source, base, tmp_path / "out", method=order[1], sparsity=0.4, set=settings)
    blocks = {("shortgpt", "shortgpt"): 2 + round(0.4 * 3)}.get(order, 2)
    assert len(bundle.removal.blocks) == blocks
    assert base.removal.blocks <= bundle.removal.blocks
    check(source, base, bundle, tmp_path / "saved")


@pytest.mark.parametrize("remove", ["attention", "ffn"])
def test_units_after_sub_layers(remove: str, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=3)
    base = plain(source, tmp_path / "base", method="blockpruner", sparsity=0.4, remove=remove)
    bundle = after(source, base, tmp_path / "out", method="flap", sparsity=0.4)
    assert bundle.removal.sublayers == base.removal.sublayers
    check_saved = logits(whole_model(Checkpoint(source), bundle))
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "saved")), check_saved, **CLOSE)


@pytest.mark.parametrize("method", ["flap", "obs-sp"])
@pytest.mark.parametrize("where", ["write_hidden", "write_tensors", "write_blocks", "commit"])
def test_a_killed_run_goes_on_to_the_same_bytes(method: str, where: str, tmp_path: Path, monkeypatch) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=4)
    base = take_out(source, tmp_path / "base", uneven, frozenset({2}), bias=True)
    settings: dict[str, Any] = {"method": method, "sparsity": 0.4}
    after(source, base, tmp_path / "whole", **settings)
    calls = []

    def killed(own):
        def call(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 2 or where == "write_blocks":
                raise KeyboardInterrupt
            return own(*arguments)

        return call

    owner = {"write_blocks": structured, "commit": BundleWriter}.get(where, over_blocks)
    monkeypatch.setattr(owner, where, killed(getattr(owner, where)))
    with pytest.raises(KeyboardInterrupt):
        after(source, base, tmp_path / "killed", **settings)
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "bundle.json").exists()
    after(source, base, tmp_path / "killed", **settings)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_masks_and_bits_come_later(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    for number, (settings, message) in enumerate(
        [(MAGNITUDE, "holds masks, and flap takes whole units out; units go first"),
         ({"method": "none", "bits": 4}, "has 4 bits already; quantize last")]
    ):  # fmt: skip
        base = plain(source, tmp_path / f"base-{number}", **settings)
        with pytest.raises(UserError, match=message):
            after(source, base, tmp_path / "no", method="flap", sparsity=0.4)
    assert not (tmp_path / "no").exists()
