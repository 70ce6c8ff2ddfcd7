"""Runs that go on from a bundle: what they make is the pruned smaller model, whichever way it is looked at."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_biases, read_quantized, read_weight
from pruning.evaluation.whole_model import whole_model
from pruning.run import calibrated, driver
from pruning.run.base import Base
from pruning.run.driver import prune
from pruning.saving.packed_smaller import save_packed_smaller
from pruning.saving.smaller import save_smaller
from tests.pruning.recipes import recipe
from tests.pruning.saving.removals import even, masked_logits, take_out, uneven
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError
from workloads.steps import steps

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
IDS = token_ids(2, 12)
FAMILIES = {"llama": {"head_dim": 12}, "gpt2": {}, "phi3": {}, "qwen2": {}, "mixtral": {}, "opt": {}}
WANDA, MAGNITUDE = {"method": "wanda"}, {"method": "magnitude", "rule": "row"}


def after(model: Path, base: MaskBundle, out: Path, **settings: Any) -> MaskBundle:
    made = replace(recipe(**settings), base=Base(base))
    return prune(Checkpoint(model), made, out, quiet, quiet)


def plain(model: Path, out: Path, **settings: Any) -> MaskBundle:
    return prune(Checkpoint(model), recipe(**settings), out, quiet, quiet)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("settings", [WANDA, {"method": "sparsegpt", "bits": 4}], ids=["wanda", "sparsegpt 4 bits"])
@pytest.mark.parametrize("family", FAMILIES)
def test_masked_after_removed_is_the_whole_model_with_units_at_zero(family, settings, tmp_path: Path) -> None:
    """Run from the bundle, saved and loaded again, and by transformers alone."""
    source = save(family, tmp_path / "model", **FAMILIES[family])
    base = take_out(source, tmp_path / "base", uneven, bias=family not in ("mixtral",))
    bundle = after(source, base, tmp_path / "out", sparsity=0.5, **settings)
    bundle.validate()
    wanted = masked_logits(source, bundle, IDS)
    assert not torch.allclose(wanted, masked_logits(source, base, IDS), **CLOSE)
    torch.testing.assert_close(logits(whole_model(Checkpoint(source), bundle)), wanted, **CLOSE)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "saved")), wanted, **CLOSE)
    for old, new in zip(base.entries, bundle.entries, strict=True):
        assert (old.name, old.layer, old.unpruned) == (new.name, new.layer, new.unpruned)
        assert (
            new.nnz == new.layer.out_features * (new.layer.in_features - new.layer.in_features // 2)
            or settings != WANDA
        )
    before, now = read_biases(base), read_biases(bundle)
    assert before.keys() == now.keys()
    assert all(torch.equal(before[name], now[name]) for name in before)
    left = sum(entry.nnz for entry in bundle.entries)
    assert bundle.sparsity == pytest.approx(1 - left / sum(entry.unpruned.n_weights for entry in base.entries))


@pytest.mark.parametrize("settings", [WANDA, {"method": "besa"}, {"method": "gblm"}, {"method": "none", "bits": 3}])
def test_it_is_what_pruning_the_saved_smaller_model_gives(settings, tmp_path: Path) -> None:
    """So calibration sees the smaller model: a plain checkpoint of it, pruned as any other."""
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", even)
    save_smaller(source, base, tmp_path / "smaller", quiet)
    found = after(source, base, tmp_path / "out", **settings)
    wanted = plain(tmp_path / "smaller", tmp_path / "wanted", **settings)
    for one, other in zip(found.layers, wanted.layers, strict=True):
        assert (one.name, one.layer, one.pattern, one.weight_bits) == (
            other.name,
            other.layer,
            other.pattern,
            other.weight_bits,
        )
        assert np.array_equal(found[one.name].words, wanted[one.name].words)
        assert found.values(one.name).keys() == wanted.values(one.name).keys()
        assert all(np.array_equal(a, found.values(one.name)[k]) for k, a in wanted.values(one.name).items())


def test_a_folder_of_uneven_blocks_gets_the_same_masks(tmp_path: Path) -> None:
    """In a bundle of the smaller model, which gives the same logits."""
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", uneven)
    save_smaller(source, base, tmp_path / "smaller", quiet)
    found = plain(tmp_path / "smaller", tmp_path / "found", **WANDA)
    bundle = after(source, base, tmp_path / "out", **WANDA)
    assert all(np.array_equal(found[entry.name].words, bundle[entry.name].words) for entry in bundle.layers)
    own = logits(whole_model(Checkpoint(tmp_path / "smaller"), found))
    torch.testing.assert_close(own, masked_logits(source, bundle, IDS), **CLOSE)
    save_smaller(tmp_path / "smaller", found, tmp_path / "again", quiet)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "again")), own, **CLOSE)


def test_three_steps(tmp_path: Path) -> None:
    """New weights of obs-sp, then 2:4, then 4 bits: nothing of an earlier step is lost, zeros stay zeros."""
    source = save("llama", tmp_path / "model", intermediate_size=64)
    first = plain(source, tmp_path / "1", method="obs-sp", sparsity=0.3, multiple_of=8)
    second = after(source, first, tmp_path / "2", method="wanda", pattern="2:4")
    third = after(source, second, tmp_path / "3", method="none", bits=4)
    third.validate()
    assert steps(third.header) == ["obs-sp 30 %", "wanda 2:4", "4 bits (rtn)"]
    assert third.header.parameters["after"]["sha256"] == second.sha256
    assert third.header.parameters["after"]["parameters"]["after"]["sha256"] == first.sha256
    assert (third.header.method, third.header.pattern, third.header.target_sparsity) == ("obs-sp+wanda+rtn", "2:4", 0.5)
    changed = 0
    for entry in third.layers:
        assert (entry.pattern, entry.weight_bits, entry.nnz) == ("2:4", 4, entry.layer.n_weights // 2)
        assert np.array_equal(third[entry.name].words, second[entry.name].words)
        keep, grid = torch.from_numpy(third[entry.name].to_dense()), read_quantized(third, entry.name)
        weight, own = grid.dequantize(), read_weight(second, entry.name)
        assert not weight[~keep].any()
        if own is not None:
            changed += 1
            assert torch.equal(own, torch.where(keep, read_weight(first, entry.name), 0))
            assert (weight - own).abs().max() <= grid.scale.max() / 2 * 1.001
    assert changed == 2 * 2  # o and down of both blocks
    torch.testing.assert_close(
        logits(whole_model(Checkpoint(source), third)), masked_logits(source, third, IDS), **CLOSE
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "zamba2"])
@pytest.mark.parametrize("quantizer", ["rtn", "gptq"])
def test_bits_after_masks_keep_the_masks(family, quantizer, tmp_path: Path) -> None:
    """And give what masks and bits in one run give; matrices that blocks share too."""
    source = save(family, tmp_path / "model")
    masks = plain(source, tmp_path / "masks", **MAGNITUDE)
    bundle = after(source, masks, tmp_path / "out", method="none", bits=4, quantizer=quantizer)
    for entry in bundle.layers:
        assert np.array_equal(bundle[entry.name].words, masks[entry.name].words)
        keep = torch.from_numpy(bundle[entry.name].to_dense())
        assert not read_weight(bundle, entry.name)[~keep].any()
    if quantizer == "rtn":
        once = plain(source, tmp_path / "once", bits=4, **MAGNITUDE)
        assert all(torch.equal(read_weight(bundle, e.name), read_weight(once, e.name)) for e in once.layers)


@pytest.mark.parametrize("settings", [{"sparsity": 0.75}, {"pattern": "2:4"}])
@pytest.mark.parametrize("method", ["wanda", "magnitude"])
def test_masks_after_masks_only_prune_more(method, settings, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    first = plain(source, tmp_path / "1", method="sparsegpt", sparsity=0.3)
    bundle = after(
        source, first, tmp_path / "2", method=method, rule=None if "pattern" in settings else "row", **settings
    )
    bundle.validate()
    for entry in bundle.layers:
        old, new = (bundle_[entry.name].to_dense() for bundle_ in (first, bundle))
        assert not (new & ~old).any()
        if "sparsity" in settings:
            assert (~new).sum(axis=1).tolist() == [int(0.75 * new.shape[1])] * len(new)
        own = read_weight(first, entry.name)
        assert torch.equal(read_weight(bundle, entry.name), torch.where(torch.from_numpy(new), own, 0))


def test_layers_that_were_not_chosen_stay_as_the_base_left_them(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", even, bias=True)
    bundle = after(source, base, tmp_path / "out", only=("gate,up",), **WANDA)
    for old, new in zip(base.layers, bundle.layers, strict=True):
        if new.role in ("gate", "up"):
            assert new.pattern == "unstructured"
        else:
            assert (new.pattern, new.nnz) == (old.pattern, old.nnz)
            assert bundle.values(new.name).keys() == base.values(old.name).keys()


@pytest.mark.parametrize("settings", [WANDA, MAGNITUDE, {"method": "magnitude", "rule": "global"}])
@pytest.mark.parametrize("killed_at", [0, 1, 2, 3])
def test_a_killed_run_goes_on_to_the_same_bytes(settings, killed_at, tmp_path: Path, monkeypatch) -> None:
    """Whole blocks are gone at both ends and between others."""
    source = save("llama", tmp_path / "model", num_hidden_layers=5)
    base = take_out(source, tmp_path / "base", even, frozenset({0, 2, 4}))
    after(source, base, tmp_path / "whole", **settings)
    written, add = [], calibrated.add_all

    def add_or_die(run, number, decisions) -> None:
        if len(written) == killed_at:
            raise KeyboardInterrupt
        written.append(number)
        add(run, number, decisions)

    for loop in (calibrated, driver):
        monkeypatch.setattr(loop, "add_all", add_or_die)
    with pytest.raises(KeyboardInterrupt):
        after(source, base, tmp_path / "killed", **settings)
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "bundle.json").exists()
    bundle = after(source, base, tmp_path / "killed", **settings)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert [entry.name for entry in bundle.entries] == [entry.name for entry in base.entries]
    bundle.validate()
    torch.testing.assert_close(
        logits(whole_model(Checkpoint(source), bundle)), masked_logits(source, bundle, IDS), **CLOSE
    )


def test_the_base_may_not_change_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", even)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrated, "write_hidden", die)
    with pytest.raises(KeyboardInterrupt):
        after(source, base, tmp_path / "out", **WANDA)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "base")
    changed = take_out(source, tmp_path / "base", even, bias=True)
    with pytest.raises(UserError, match="holds an unfinished run with other settings"):
        after(source, changed, tmp_path / "out", **WANDA)
    after(source, changed, tmp_path / "whole", **WANDA)
    with pytest.raises(UserError, match="already holds another bundle"):
        after(source, take_out(source, tmp_path / "other", even), tmp_path / "whole", **WANDA)


def test_bases_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", uneven)
    cases: list[tuple[Path, MaskBundle, dict[str, Any], str]] = []
    other = save("llama", tmp_path / "other", intermediate_size=40)
    cases.append((other, base, WANDA, r"had shape \(48, 32\) before pruning, this model has \(40, 32\)"))
    cases.append((save("gpt2", tmp_path / "gpt"), base, WANDA, "this model has no such layer"))
    deeper = save("llama", tmp_path / "deeper", num_hidden_layers=3)
    cases.append((deeper, base, WANDA, "lacks model.layers.2.self_attn.q_proj, which this model has"))
    weights = plain(save("llama", tmp_path / "twin", torch.bfloat16), tmp_path / "t", method="cfsp", sparsity=0.5)
    cases.append((source, weights, WANDA, "was made from other weights"))
    bits = plain(source, tmp_path / "bits", method="none", bits=4)
    cases.append((source, bits, WANDA, "has 4 bits already; quantize last"))
    masks = plain(source, tmp_path / "masks", **MAGNITUDE)
    cases.append((source, masks, {"method": "sparsegpt"}, "sparsegpt cannot keep to them"))
    cases.append((source, masks, {"method": "besa"}, "besa cannot keep to them"))
    cases.append(
        (source, masks, {"method": "wanda", "sparsity": 0.3}, "50.0% .* are zero already, `sparsity` asks for 30")
    )
    cut = plain(source, tmp_path / "cut", method="magnitude-sp", sparsity=0.31, units="ffn")
    cases.append((source, cut, {"method": "wanda", "pattern": "2:4"}, "or make .*cut with `multiple_of=4`"))
    for number, (model, before, settings, message) in enumerate(cases):
        with pytest.raises((UserError, NotForThisModel), match=message):
            after(model, before, tmp_path / f"no-{number}", **settings)
        assert not list((tmp_path / f"no-{number}").glob("*"))
    with pytest.raises(UserError, match="`out` and `after` are both"):
        after(source, base, tmp_path / "base", **WANDA)


@pytest.mark.parametrize("file", ["masks-00000.safetensors", "removal.safetensors"])
def test_a_damaged_base_is_one_line(file: str, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", uneven)
    shutil.copytree(tmp_path / "base", tmp_path / "broken")
    broken = MaskBundle.open(tmp_path / "broken")
    data = bytearray((tmp_path / "broken" / file).read_bytes())
    data[-3] ^= 1
    (tmp_path / "broken" / file).write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"damaged|make the bundle again"):
        after(source, broken, tmp_path / "no", **WANDA)
    assert not (tmp_path / "no").exists()
    assert base.sha256 == broken.sha256


def test_masks_after_whole_blocks(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=4)
    base = plain(source, tmp_path / "base", method="shortgpt", sparsity=0.5)
    bundle = after(source, base, tmp_path / "out", bits=4, **WANDA)
    assert len(bundle.gone) == len(base.gone) > 0
    wanted = masked_logits(source, bundle, IDS)
    torch.testing.assert_close(logits(whole_model(Checkpoint(source), bundle)), wanted, **CLOSE)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    torch.testing.assert_close(logits(load_whole(tmp_path / "saved")), wanted, **CLOSE)


@pytest.mark.parametrize("remove", ["attention", "ffn"])
def test_masks_after_sub_layers(remove: str, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=3)
    base = plain(source, tmp_path / "base", method="blockpruner", sparsity=0.4, remove=remove)
    bundle = after(source, base, tmp_path / "out", bits=4, **WANDA)
    bundle.validate()
    assert [entry.name for entry in bundle.entries] == [entry.name for entry in base.entries]
    assert [entry.name for entry in bundle.gone] == [entry.name for entry in base.gone]
    assert bundle.gone
    assert {entry.weight_bits for entry in bundle.entries} == {4}
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    found = logits(whole_model(Checkpoint(source), bundle))
    torch.testing.assert_close(found, logits(ps.load_pruned(tmp_path / "saved")), **CLOSE)
    assert not torch.allclose(found, logits(whole_model(Checkpoint(source), base)), **CLOSE)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mixtral"])
def test_packed_where_a_config_says_the_sizes(family: str, tmp_path: Path) -> None:
    """transformers loads what is left at 4 bits, a block fewer, to the logits of the bundle."""
    source = save(family, tmp_path / "model", num_hidden_layers=3)
    base = take_out(source, tmp_path / "base", even, frozenset({1}))
    symmetric = {"quantizer.symmetric": family == "mixtral"}
    bundle = after(source, base, tmp_path / "out", method="magnitude", pattern="2:4", bits=4, set=symmetric)
    save_packed_smaller(source, bundle, tmp_path / "packed", quiet)
    wanted = masked_logits(source, bundle, IDS)
    torch.testing.assert_close(logits(load_whole(tmp_path / "packed")), wanted, **CLOSE)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "packed")), wanted, **CLOSE)
    size = sum(file.stat().st_size for file in (tmp_path / "packed").glob("*.safetensors"))
    save_smaller(source, bundle, tmp_path / "dense", quiet)
    assert size < sum(file.stat().st_size for file in (tmp_path / "dense").glob("*.safetensors"))


def test_no_config_says_the_sizes_of_what_is_to_be_packed(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    base = take_out(source, tmp_path / "base", uneven)
    with pytest.raises(UserError, match=r"cannot be packed \(blocks keep .*save it as `dense`"):
        ps.prune(source, out=tmp_path / "out", method="none", bits=4, after=tmp_path / "base",
                 save_model=tmp_path / "no", save_format="packed")  # fmt: skip
    assert not (tmp_path / "out").exists()
    bundle = after(source, base, tmp_path / "out", method="none", bits=4)
    with pytest.raises(UserError, match="cannot be packed"):
        save_packed_smaller(source, bundle, tmp_path / "no", quiet)


def test_trained_after_three_steps(tmp_path: Path) -> None:
    """Masks, grids and sizes are held; what is saved gives the bundle's logits."""
    source = save("llama", tmp_path / "model", intermediate_size=64)
    first = plain(source, tmp_path / "1", method="flap", sparsity=0.3, multiple_of=8)
    base = after(source, first, tmp_path / "2", method="magnitude", pattern="2:4", bits=4)
    np.save(tmp_path / "ids.npy", token_ids(10, 12).numpy())
    text = str(tmp_path / "ids.npy")
    bundle = ps.finetune(source, masks=base, out=tmp_path / "3", text=text, held_out="0.2", lr=1e-2, steps=4, batch=4,
                         save_model=tmp_path / "saved")  # fmt: skip
    bundle.validate()
    moved = 0
    for old, new in zip(base.layers, bundle.layers, strict=True):
        assert (old.layer, old.unpruned, old.pattern, old.weight_bits) == (
            new.layer, new.unpruned, new.pattern, new.weight_bits
        )  # fmt: skip
        assert np.array_equal(base[old.name].words, bundle[new.name].words)
        before, now = read_quantized(base, old.name), read_quantized(bundle, new.name)
        assert torch.equal(before.scale, now.scale)
        moved += int((before.codes != now.codes).sum())
    assert moved
    wanted = masked_logits(source, bundle, IDS)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "saved")), wanted, **CLOSE)
    assert steps(bundle.header) == ["flap 30 %", "magnitude 2:4, 4 bits (rtn)", "finetune"]


@pytest.mark.parametrize("target", ["systolic", "vitcod", "stc", "stripes", "a100-pcie"])
def test_rows_compare_with_the_unpruned_layer_at_the_same_bits(target: str, tmp_path: Path) -> None:
    """The same dense time as that of the model which is quantized alone, layer by layer; layers that are gone too."""
    source = save("llama", tmp_path / "model", num_hidden_layers=3)
    base = take_out(source, tmp_path / "base", uneven, frozenset({1}))
    bundle = after(source, base, tmp_path / "out", method="magnitude", rule="row", bits=4)
    alone = plain(source, tmp_path / "alone", method="none", bits=4)
    one, other = (ps.simulate(folder, on=target, tokens=7).frame for folder in (bundle, alone))
    assert one["layer"].tolist() == other["layer"].tolist()
    np.testing.assert_allclose(one["dense_latency_us"].to_numpy(float), other["dense_latency_us"].to_numpy(float))
    sizes = {entry.name: entry.layer.shape for entry in bundle.layers}
    for row in one[one["block"] != 1].itertuples():
        assert (row.out_features, row.in_features) == sizes[row.layer]
        assert row.speedup == pytest.approx(row.dense_latency_us / row.latency_us)
    assert (one.loc[one["block"] == 1, "latency_us"] == 0).all()
