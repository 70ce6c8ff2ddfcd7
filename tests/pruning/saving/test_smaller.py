"""Saved models of structured pruning: equal logits in every form, the same bytes resumed, never a wrong plain one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import prunesim as ps
from checkpoints.catalog import resolve_config
from checkpoints.checkpoint import Checkpoint
from pruning.evaluation.perplexity import perplexity
from pruning.saving import dense as saving
from pruning.saving.dense import save_pruned
from pruning.saving.packed import save_packed
from pruning.saving.packed_smaller import save_packed_smaller
from pruning.saving.smaller import save_smaller
from tests.pruning.saving.removals import even, masked_logits, take_out, uneven, whole
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.errors import NotForThisModel, UserError

WIDE = {"head_dim": 12}  # not hidden size / heads
FAMILIES = {
    "llama": WIDE,
    "llama-tied": {},
    "gpt2": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": WIDE,
    "opt": {},
    "mixtral": {},
    "qwen3_moe": {"moe_intermediate_size": 32},
    "gemma3": {},
}
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
IDS = token_ids(2, 12)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


def is_plain(folder: Path) -> bool:
    return (folder / "model.safetensors.index.json").exists()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("left", [even, uneven])
def test_masked_reloaded_and_padded_give_equal_logits(family: str, left, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model", **FAMILIES[family])
    bundle = take_out(source, tmp_path / "bundle", left, masked=True)
    wanted = masked_logits(source, bundle, IDS)
    assert not torch.allclose(wanted, logits(load_whole(source)), **CLOSE)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "saved")), wanted, **CLOSE)
    if is_plain(tmp_path / "saved"):
        torch.testing.assert_close(logits(load_whole(tmp_path / "saved")), wanted, **CLOSE)
    else:
        with pytest.raises(OSError, match="no file named"):
            load_whole(tmp_path / "saved")
    save_smaller(source, bundle, tmp_path / "padded", quiet, padded=True)
    torch.testing.assert_close(logits(load_whole(tmp_path / "padded")), wanted, **CLOSE)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "padded")), wanted, **CLOSE)


# Families whose config says heads and neurons; GPT-2 and OPT derive the size of a head from the number of heads.
@pytest.mark.parametrize(("family", "plain"), [(f, f not in ("gpt2", "opt")) for f in FAMILIES])
def test_equal_widths_are_a_plain_checkpoint_where_the_config_can_say_them(
    family: str, plain: bool, tmp_path: Path
) -> None:
    source = save(family, tmp_path / "model", **FAMILIES[family])
    said = save_smaller(source, take_out(source, tmp_path / "bundle", even), tmp_path / "saved", quiet)
    assert is_plain(tmp_path / "saved") == plain, said
    assert not is_plain(tmp_path / "saved") or not (tmp_path / "saved" / "prunesim-removal.safetensors").exists()


def neurons_alone(kind: str, block: int, count: int) -> int:
    return count // 2 if kind == "neuron" else count


@pytest.mark.parametrize(("family", "name", "size"), [("gpt2", "n_inner", 64), ("opt", "ffn_dim", 24)])
def test_neurons_alone_are_plain_in_families_without_a_head_size(family, name, size, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model")
    bundle = take_out(source, tmp_path / "bundle", neurons_alone)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())[name] == size
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(logits(model), masked_logits(source, bundle, IDS), **CLOSE)


def test_the_config_says_the_sizes(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", **WIDE)
    save_smaller(source, take_out(source, tmp_path / "bundle", even), tmp_path / "saved", quiet)
    old, new = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("model", "saved"))
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    assert changed == {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
    assert new["head_dim"] == 12


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "qwen2"])
@pytest.mark.parametrize("left", [even, uneven])
def test_biases_that_a_method_made(family: str, left, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model")
    bundle = take_out(source, tmp_path / "bundle", left, bias=True)
    wanted = masked_logits(source, bundle, IDS)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "saved")), wanted, **CLOSE)
    assert is_plain(tmp_path / "saved") == (family == "llama" and left is even)
    if family in ("llama", "gpt2"):  # its config can give o and down a bias, or they have one
        save_smaller(source, bundle, tmp_path / "padded", quiet, padded=True)
        torch.testing.assert_close(logits(load_whole(tmp_path / "padded")), wanted, **CLOSE)
    else:
        with pytest.raises(UserError, match=r"cannot be padded.*bias would be absent.*without biases"):
            save_smaller(source, bundle, tmp_path / "padded", quiet, padded=True)
        assert not (tmp_path / "padded").exists()


@pytest.mark.parametrize("left", [whole, even, uneven])
def test_whole_blocks_and_their_settings(left, tmp_path: Path) -> None:
    """Gemma 2 has windows in every other block: the list of them has to follow."""
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    source = save("gemma3_text", tmp_path / "model", num_hidden_layers=4, layer_types=kinds)
    bundle = take_out(source, tmp_path / "bundle", left, frozenset({0, 2}))
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    wanted = masked_logits(source, bundle, IDS)
    model = ps.load_pruned(tmp_path / "saved")
    torch.testing.assert_close(logits(model), wanted, **CLOSE)
    assert is_plain(tmp_path / "saved") == (left is not uneven)
    if is_plain(tmp_path / "saved"):
        torch.testing.assert_close(logits(load_whole(tmp_path / "saved")), wanted, **CLOSE)
        settings = json.loads((tmp_path / "saved" / "config.json").read_text())
        assert settings["layer_types"] == ["full_attention", "sliding_attention"]
        assert settings["num_hidden_layers"] == 2


def test_a_smaller_model_generates_with_its_cache(tmp_path: Path) -> None:
    """Token by token from the cache = all at once, though the first block is gone and the others differ."""
    source = save("llama", tmp_path / "model", num_hidden_layers=3)
    bundle = take_out(source, tmp_path / "bundle", uneven, frozenset({0}))
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    model = ps.load_pruned(tmp_path / "saved")
    assert not is_plain(tmp_path / "saved")
    made = model.generate(IDS, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    for length in range(IDS.shape[1], made.shape[1]):
        with torch.no_grad():
            following = model(made[:, :length], use_cache=False).logits[:, -1]
        following[:, model.generation_config.eos_token_id] = -torch.inf
        assert torch.equal(following.argmax(dim=-1), made[:, length])


def test_interleaved_matrices(tmp_path: Path) -> None:
    """GPT-NeoX has q, k and v of a head side by side."""
    source = save("gpt_neox", tmp_path / "model")
    bundle = take_out(source, tmp_path / "bundle", even, layout="interleaved")
    wanted = masked_logits(source, bundle, IDS)
    for padded in (False, True):
        save_smaller(source, bundle, tmp_path / f"saved{padded}", quiet, padded=padded)
        torch.testing.assert_close(logits(ps.load_pruned(tmp_path / f"saved{padded}")), wanted, **CLOSE)


def test_what_stays_is_bit_for_bit_the_files(tmp_path: Path) -> None:
    """Half-precision weights under a config that says otherwise keep their bits and their type."""
    source = save("llama", tmp_path / "model", torch.bfloat16)
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(settings | {"dtype": "float16"}))
    bundle = take_out(source, tmp_path / "bundle", even)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    old, new = (Checkpoint(folder) for folder in (source, tmp_path / "saved"))
    for name, cut in bundle.removal.cuts.items():
        (before,), (after,) = old.raw([f"{name}.weight"]).values(), new.raw([f"{name}.weight"]).values()
        assert after.dtype == torch.bfloat16
        assert np.array_equal(before.view(torch.int16).numpy()[np.ix_(cut.rows, cut.cols)], after.view(torch.int16))


def test_a_smaller_folder_is_evaluated_as_its_bundle(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    bundle = take_out(source, tmp_path / "bundle", uneven, bias=True)
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    asked = perplexity(Checkpoint(source), IDS, bundle, quiet)
    assert perplexity(Checkpoint(tmp_path / "saved"), IDS, None, quiet) == pytest.approx(asked, rel=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shards", [0, 1, 2])
def test_a_killed_run_continues_to_the_same_bytes(
    shards: int, padded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save("mixtral", tmp_path / "model")
    bundle = take_out(source, tmp_path / "bundle", uneven)
    save_smaller(source, bundle, tmp_path / "whole", quiet, padded)
    written, write = [], saving.save_file

    def write_or_die(tensors, part, **rest) -> None:
        if len(written) == shards:
            Path(part).write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(part)
        write(tensors, part, **rest)

    monkeypatch.setattr(saving, "save_file", write_or_die)
    with pytest.raises(KeyboardInterrupt):
        save_smaller(source, bundle, tmp_path / "saved", quiet, padded)
    monkeypatch.undo()
    assert not list((tmp_path / "saved").glob("*.index.json"))
    save_smaller(source, bundle, tmp_path / "saved", quiet, padded)
    assert contents(tmp_path / "saved") == contents(tmp_path / "whole")


def test_what_cannot_be_saved_is_said_in_a_line(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    bundle = take_out(source, tmp_path / "bundle", uneven)
    for saver in (save_packed, save_pruned):
        with pytest.raises(UserError, match="takes 1 of 4 kv groups, 36 of 96 neurons out"):
            saver(source, bundle, tmp_path / "no", quiet)
    with pytest.raises(UserError, match="holds no quantized weights to pack"):
        save_packed_smaller(source, bundle, tmp_path / "no", quiet)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="is not empty"):
        save_smaller(source, bundle, tmp_path / "full", quiet)
    other = save("llama", tmp_path / "other", intermediate_size=40)
    with pytest.raises(UserError, match=r"had shape \(48, 32\) before pruning, this model has \(40, 32\)"):
        save_smaller(other, bundle, tmp_path / "no", quiet)
    assert not (tmp_path / "no").exists()
    save_smaller(source, bundle, tmp_path / "saved", quiet)
    with pytest.raises(UserError, match="packed otherwise"):
        save_smaller(source, bundle, tmp_path / "saved", quiet, padded=True)
    with pytest.raises(UserError, match="of which only `dense` can be saved; prune and save the original"):
        save_packed(tmp_path / "saved", bundle, tmp_path / "no", quiet)
    with pytest.raises(UserError, match="give the mask bundle"):
        resolve_config(str(tmp_path / "saved"))
    with pytest.raises(UserError, match="`save_format=padded` is for what structured pruning leaves; magnitude takes"):
        ps.prune(source, out=tmp_path / "m", method="magnitude", sparsity=0.5, save_model=tmp_path / "no",
                 save_format="padded")  # fmt: skip


@pytest.mark.parametrize("damage", [b"", b"half a file", None])
def test_a_damaged_removal_is_told(damage: bytes | None, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    save_smaller(source, take_out(source, tmp_path / "bundle", uneven), tmp_path / "saved", quiet)
    file = tmp_path / "saved" / "prunesim-removal.safetensors"
    if damage is None:  # of another model
        take_out(save("gpt2", tmp_path / "gpt"), tmp_path / "other", uneven)
        save_smaller(tmp_path / "gpt", ps.load(tmp_path / "other"), tmp_path / "third", quiet)
        damage = (tmp_path / "third" / file.name).read_bytes()
    file.write_bytes(damage)
    with pytest.raises(UserError, match=r"save the model again|is not in this model"):
        ps.load_pruned(tmp_path / "saved")
    file.unlink()
    with pytest.raises(UserError, match="has shape"):  # not filled into a whole model
        ps.load_pruned(tmp_path / "saved")


def test_blocks_that_cannot_be_left_out(tmp_path: Path) -> None:
    source = save("gpt2", tmp_path / "model", scale_attn_by_inverse_layer_idx=True)
    bundle = take_out(source, tmp_path / "bundle", whole, frozenset({0}))
    with pytest.raises(NotForThisModel, match="divides attention by the number of the block"):
        save_smaller(source, bundle, tmp_path / "saved", quiet)
