"""Fine-tuning under masks: what must hold of every trained bundle, whatever the model, the masks and the mode."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, parameter_name
from pruning import parallel
from pruning.bundle_values import read_biases, read_quantized, read_weight
from pruning.config import FinetuneConfig
from pruning.evaluation.perplexity import perplexity
from pruning.recovery import finetune as module
from pruning.recovery import loop
from pruning.recovery.finetune import finetune, read_history
from pruning.recovery.loop import Diverged
from pruning.recovery.plan import make_plan
from pruning.recovery.schedule import Schedule
from pruning.run.driver import prune
from pruning.saving.dense import save_pruned
from tests.pruning.recipes import recipe
from tests.thinned import thinned
from validation.conformance.tiny_models import VOCAB, contents, load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError

BUNDLES: dict[str, dict[str, Any]] = {
    "unstructured": {"method": "magnitude", "rule": "row"},
    "2:4": {"method": "magnitude", "pattern": "2:4"},
    "sparsegpt 4 bit": {"method": "sparsegpt", "bits": 4, "group_size": 8},
    "awq 3 bit": {"method": "none", "bits": 3, "quantizer": "awq", "group_size": 8},
    "chosen": {"method": "magnitude", "rule": "row", "only": ("q,down",)},
}
FAMILIES = ["llama", "llama-tied", "gpt2", "mixtral", "gpt_oss", "zamba2"]
CASES = [(family, kind) for family in FAMILIES for kind in ("unstructured", "2:4")]
CASES += [(family, kind) for family in ("llama", "gpt2", "gpt_oss") for kind in ("sparsegpt 4 bit", "awq 3 bit")]
CASES += [("llama", "chosen")]
QUICK: dict[str, Any] = {"steps": 4, "lr": 0.02, "batch": 2, "eval_every": 2, "held_out": "0.2", "seq_len": 12}


def made(model: Path, folder: Path, **settings: Any) -> MaskBundle:
    return prune(Checkpoint(model), recipe(**settings), folder, quiet, quiet)


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, token_ids(10, 12).numpy())
    return str(path)


def trained(model: Path, masks: MaskBundle, out: Path, text: str, **settings: Any) -> MaskBundle:
    plan = make_plan(FinetuneConfig(text=text, **(QUICK | settings)))
    return finetune(Checkpoint(model), masks, plan, out, quiet, quiet)


def weights_of(model: Path, bundle: MaskBundle) -> dict[str, torch.Tensor]:
    """Of every layer, (out, in), by the saved checkpoint as transformers loads it."""
    target = bundle.folder.parent / f"{bundle.folder.name}-model"
    save_pruned(model, bundle, target, quiet)
    whole = load_whole(target)
    found = dict(whole.named_parameters())
    return {
        ref.layer.name: ref.view(found[parameter_name(ref)]) for block in all_refs(Checkpoint(model)) for ref in block
    }


@pytest.mark.parametrize(("of", "mode"), thinned(CASES, ["full", "lora"], every=2))
def test_masks_patterns_and_grids_are_held(of: tuple[str, str], mode: str, tmp_path: Path, ids: str) -> None:
    family, kind = of
    model = save(family, tmp_path / "model")
    masks = made(model, tmp_path / "masks", **BUNDLES[kind])
    bundle = trained(model, masks, tmp_path / "trained", ids, mode=mode)
    bundle.validate()
    assert bundle.header.method == f"{masks.header.method}+finetune"
    weights = weights_of(model, bundle)
    moved = 0
    for old, new in zip(masks.layers, bundle.layers, strict=True):
        same = ("name", "pattern", "nnz", "weight_bits", "group_size", "sha256")
        assert [getattr(old, name) for name in same] == [getattr(new, name) for name in same]
        keep = torch.from_numpy(masks[old.name].to_dense())
        pruned = weights[old.name][~keep]
        assert bool((pruned == 0).all())
        assert not bool(torch.signbit(pruned).any())
        before, after = read_quantized(masks, old.name), read_quantized(bundle, old.name)
        if before is None:
            assert after is None
            moved += int((weights[old.name] != read_or_dense(model, masks, old.name)).sum())
            continue
        assert torch.equal(before.scale, after.scale)
        assert torch.equal(before.zero, after.zero)
        moved += int((before.codes != after.codes).sum())
        width = after.grid.width(old.in_features)
        step = after.scale.repeat_interleave(width, 1).double()
        scaled = 1.0 if after.input_scale is None else after.input_scale.double()
        codes = weights[old.name].double() * scaled / step + after.zero.repeat_interleave(width, 1)
        assert bool((codes - codes.round()).abs().max() < 1e-4)
        assert 0 <= float(codes.round().min()) <= float(codes.round().max()) <= 2**old.weight_bits - 1
    assert moved > 0


SMALLER: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"method": "flap"}),
    ("llama", {"method": "shortgpt"}),
    ("llama", {"method": "blockpruner"}),
    ("gpt2", {"method": "obs-sp"}),
    ("mixtral", {"method": "cfsp"}),
]


@pytest.mark.parametrize("more", [{}, {"mode": "lora", "importance": "kept"}, {"distill": "layers"}])
@pytest.mark.parametrize(("family", "settings"), SMALLER)
def test_models_that_were_made_smaller(
    family: str, settings: dict[str, Any], more: dict[str, Any], tmp_path: Path, ids: str
) -> None:
    """Sizes, what is gone and biases stay, weights move, and the held-out losses are those of eval, which runs the
    model block by block."""
    model = save(family, tmp_path / "model")
    masks = made(model, tmp_path / "masks", sparsity=0.5, **settings)
    bundle = trained(model, masks, tmp_path / "trained", ids, **more)
    bundle.validate()
    assert {n: a.tolist() for n, a in bundle.removal.arrays().items()} == {
        n: a.tolist() for n, a in masks.removal.arrays().items()
    }
    for old, new in zip(masks.entries, bundle.entries, strict=True):
        assert (old.name, old.pattern, old.layer, old.unpruned) == (new.name, new.pattern, new.layer, new.unpruned)
    assert all(read_weight(bundle, entry.name) is not None for entry in bundle.layers)
    before, after = read_biases(masks), read_biases(bundle)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    looks, last = read_history(bundle), token_ids(10, 12)[8:]
    assert looks[0].held_out_loss != looks[-1].held_out_loss
    for seen, of in ((looks[0], masks), (looks[-1], bundle)):
        assert math.log(perplexity(Checkpoint(model), last, of, quiet)) == pytest.approx(seen.held_out_loss, rel=1e-5)


def test_a_smaller_run_that_was_killed_goes_on_to_the_same_bytes(
    tmp_path: Path, ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="flap", sparsity=0.5)
    trained(model, masks, tmp_path / "whole", ids)
    written, values = [], module.to_values

    def die(*args: Any) -> Any:
        if len(written) == 9:  # in the second block
            raise KeyboardInterrupt
        written.append(args)
        return values(*args)

    monkeypatch.setattr(module, "to_values", die)
    with pytest.raises(KeyboardInterrupt):
        trained(model, masks, tmp_path / "killed", ids)
    monkeypatch.undo()
    assert (tmp_path / "killed" / "removal.safetensors").exists()
    assert (tmp_path / "killed" / "values-00000.safetensors").exists()
    trained(model, masks, tmp_path / "killed", ids)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def read_or_dense(model: Path, masks: MaskBundle, name: str) -> torch.Tensor:
    found = read_weight(masks, name)
    if found is not None:
        return found
    whole = dict(load_whole(model).named_parameters())
    refs = {ref.layer.name: ref for block in all_refs(Checkpoint(model)) for ref in block}
    keep = torch.from_numpy(masks[name].to_dense())
    return torch.where(keep, refs[name].view(whole[parameter_name(refs[name])]), 0.0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_training_is_plain_adam_on_the_product_of_weight_and_mask(family: str, tmp_path: Path, ids: str) -> None:
    """Against the obvious program: transformers' model with W * M in place of W, autograd, clipping, Adam."""
    model = save(family, tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    settings = QUICK | {"lr": 1e-3, "steps": 5, "warmup": 2, "batch": 3}
    bundle = trained(model, masks, tmp_path / "trained", ids, **settings)
    whole, rows = load_whole(model), token_ids(10, 12)[:8]
    refs = [ref for block in all_refs(Checkpoint(model)) for ref in block]
    leaves = {parameter_name(r): whole.get_parameter(parameter_name(r)).clone().requires_grad_() for r in refs}
    keeps = {}
    for ref in refs:
        keep = torch.from_numpy(masks[ref.layer.name].to_dense())
        keeps[parameter_name(ref)] = (keep.T if ref.transposed else keep).float()
    adam = torch.optim.Adam(leaves.values())
    rates = [5e-4, 1e-3, 1e-3, 1e-3 * (1 + math.cos(math.pi / 3)) / 2, 1e-3 * (1 + math.cos(2 * math.pi / 3)) / 2]
    for step, rate in enumerate(rates):
        batch = rows[Schedule(5, 1e-3, 2, 3, 0).sequences_at(step, 8)]
        logits = functional_call(
            whole, {n: w * keeps[n] for n, w in leaves.items()}, kwargs={"input_ids": batch, "use_cache": False}
        ).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float(leaf.grad.double().square().sum()) for leaf in leaves.values()))
        for leaf in leaves.values():
            leaf.grad *= min(1.0, 1 / norm)
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
    for ref in refs:
        name = parameter_name(ref)
        wanted = (leaves[name] * keeps[name]).detach()
        found = read_weight(bundle, ref.layer.name)
        assert torch.allclose(found, wanted.T if ref.transposed else wanted, atol=3e-5), name


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_text_is_learned_by_heart(mode: str, tmp_path: Path, ids: str) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    bundle = trained(model, masks, tmp_path / "out", ids, mode=mode, steps=60, batch=8, held_out=ids, eval_every=20)
    losses = [look.held_out_loss for look in read_history(bundle)]
    assert losses[-1] < 0.5 * losses[0]
    assert sorted(losses, reverse=True) == losses


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_the_held_out_loss_is_that_of_eval(dtype: torch.dtype, close: float, tmp_path: Path, ids: str) -> None:
    """Before and after: exp of it is the perplexity of the bundle that was given and of the one that came out."""
    model = save("llama", tmp_path / "model", torch.bfloat16)
    masks = made(model, tmp_path / "masks", method="sparsegpt", bits=4)
    plan = make_plan(FinetuneConfig(text=ids, **QUICK))
    bundle = finetune(Checkpoint(model, dtype), masks, plan, tmp_path / "out", quiet, quiet)
    looks, last = read_history(bundle), token_ids(10, 12)[8:]
    for look, masked in ((looks[0], masks), (looks[-1], bundle)):
        found = perplexity(Checkpoint(model, dtype), last, masked, quiet)
        assert math.log(found) == pytest.approx(look.held_out_loss, rel=close)
    assert looks[0].held_out_loss != looks[-1].held_out_loss


@pytest.mark.parametrize("settings", [{}, {"mode": "lora", "distill": "layers", "patience": 3}])
@pytest.mark.parametrize("killed_at", [1, 3, 5, 6])
def test_a_killed_run_goes_on_to_the_same_bytes(
    settings: dict[str, Any], killed_at: int, tmp_path: Path, ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row", bits=4)
    settings = settings | {"steps": 6, "save_every": 2}
    trained(model, masks, tmp_path / "whole", ids, **settings)
    count, step = [0], loop.one_step

    def step_or_die(*args: Any) -> None:
        if count[0] == killed_at:
            raise KeyboardInterrupt
        count[0] += 1
        step(*args)

    monkeypatch.setattr(loop, "one_step", step_or_die)
    if killed_at == 6:
        monkeypatch.setattr(module, "to_values", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trained(model, masks, tmp_path / "killed", ids, **settings)
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "bundle.json").exists()
    with pytest.raises(UserError, match="unfinished run with other settings"):
        trained(model, masks, tmp_path / "killed", ids, **(settings | {"lr": 0.01}))
    trained(model, masks, tmp_path / "killed", ids, **settings)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    trained(model, masks, tmp_path / "killed", ids, **settings)  # a finished one is left as it is
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_same_bytes_whatever_the_threads_and_with_activations_computed_again(
    tmp_path: Path, ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save("mixtral", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    monkeypatch.setitem(parallel.PIECE_TOKENS, "cpu", 12)  # a sequence a piece
    for threads, name, more in (("1", "one", {}), ("3", "three", {}), ("2", "again", {"recompute": True})):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        trained(model, masks, tmp_path / name, ids, batch=5, distill="layers", **more)
    assert contents(tmp_path / "one") == contents(tmp_path / "three") == contents(tmp_path / "again")


def test_patience_stops_and_keeps_the_best(tmp_path: Path, ids: str) -> None:
    """Learning noise by heart makes other noise less likely: the best look is not the last."""
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    settings = {"steps": 400, "eval_every": 5, "batch": 8, "lr": 0.01}
    bundle = trained(model, masks, tmp_path / "out", ids, patience=2, **settings)
    looks = read_history(bundle)
    losses = [look.held_out_loss for look in looks]
    assert looks[-1].step < 400
    assert losses.index(min(losses)) == len(losses) - 3
    found = perplexity(Checkpoint(model), token_ids(10, 12)[8:], bundle, quiet)
    assert math.log(found) == pytest.approx(min(losses), rel=1e-6)


def test_matrices_that_are_not_chosen_stay(tmp_path: Path, ids: str) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="sparsegpt")
    bundle = trained(model, masks, tmp_path / "out", ids, only=("q,v",), skip=("blocks:1",))
    for entry in bundle.layers:
        same = torch.equal(read_weight(masks, entry.name), read_weight(bundle, entry.name))
        assert same != (entry.role in ("q", "v") and entry.block == 0), entry.name
    assert bundle.header.parameters["finetune"][0]["only"] == ["q,v"]


def test_a_trained_bundle_is_trained_again(tmp_path: Path, ids: str) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    once = trained(model, masks, tmp_path / "once", ids)
    twice = trained(model, once, tmp_path / "twice", ids, mode="lora", rank=2)
    assert twice.header.method == "magnitude+finetune"
    assert [done["mode"] for done in twice.header.parameters["finetune"]] == ["full", "lora"]
    assert read_history(twice)[0].held_out_loss == read_history(once)[-1].held_out_loss


def refused(model: Path, masks: MaskBundle, out: Path, text: str, **settings: Any) -> str:
    with pytest.raises(UserError) as refusal:
        trained(model, masks, out, text, **settings)
    assert "\n" not in str(refusal.value)
    assert not out.exists() or not list(out.iterdir())
    return str(refusal.value)


def test_what_cannot_be_trained(tmp_path: Path, ids: str) -> None:
    model, other = save("llama", tmp_path / "model"), save("gpt2", tmp_path / "other")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    out = tmp_path / "out"
    assert "this model has no such layer; was it made for another model?" in refused(other, masks, out, ids)
    with pytest.raises(UserError, match="a folder of its own"):
        trained(model, masks, masks.folder, ids)
    assert "asked for: 10 of 13" in refused(model, masks, out, ids, seq_len=13)
    assert "no layer has the role 'z'" in refused(model, masks, out, ids, only=("z",))
    assert "gives 3 numbers, the model has 2 blocks" in refused(model, masks, out, ids, mode="lora", importance="1,2,3")
    np.save(tmp_path / "high.npy", np.full((4, 8), VOCAB))
    assert "the vocabulary has 64" in refused(model, masks, out, str(tmp_path / "high.npy"), seq_len=8)
    np.save(tmp_path / "one.npy", token_ids(1, 12).numpy())
    assert "one is held out" in refused(model, masks, out, str(tmp_path / "one.npy"))
    bert = save("bert", tmp_path / "bert")
    encoder = made(bert, tmp_path / "encoder", method="magnitude", rule="row")
    with pytest.raises(NotForThisModel, match="only causal language models predict"):
        trained(bert, encoder, out, ids)
    plan = make_plan(FinetuneConfig(text=ids, **QUICK))
    with pytest.raises(UserError, match="vanish in float16"):
        finetune(Checkpoint(model, torch.float16), masks, plan, out, quiet, quiet)


def test_a_loss_that_is_not_finite_stops_and_leaves_nothing(
    tmp_path: Path, ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    said = refused(model, masks, tmp_path / "out", ids, lr=1e30, warmup=0, save_every=1)
    assert "use a lower `lr` (it is 1e+30)" in said
    trained(model, masks, tmp_path / "out", ids)
    assert issubclass(Diverged, UserError)


def test_a_damaged_state_is_told_and_kept(tmp_path: Path, ids: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", method="magnitude", rule="row")
    monkeypatch.setattr(module, "write_weights", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trained(model, masks, tmp_path / "out", ids)
    monkeypatch.undo()
    state = tmp_path / "out" / "training-00000.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        trained(model, masks, tmp_path / "out", ids)
    assert state.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": None}, "say how long to train"),
        ({"text": None}, "say what to train on"),
        ({"steps": 0}, "`steps` must be at least 1, not 0"),
        ({"lr": 0.0}, "`lr` must be a number above 0"),
        ({"lr": math.inf}, "`lr` must be a number above 0"),
        ({"warmup": 4}, "less than the 4 steps"),
        ({"rank": 4}, "`rank` is of adapters"),
        ({"importance": "kept"}, "`importance` is of adapters"),
        ({"mode": "qlora"}, "`mode` is full or lora"),
        ({"distill": "both"}, "`distill` is logits or layers"),
        ({"distill_weight": 1.0}, "has no meaning without `distill`"),
        ({"held_out": "1.5"}, "a share in (0, 1), or a file; not 1.5"),
        ({"held_out": "no/such/file.txt"}, "`held_out`: no such file"),
        ({"patience": 0}, "`patience` must be at least 1"),
        ({"seq_len": 1}, "at least 2 to predict anything"),
        ({"seed": -1}, "seed"),
        ({"only": ("blocks:x",)}, "no range of blocks"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refusal:
        make_plan(FinetuneConfig(**({"text": "t.txt"} | QUICK | settings)))
    assert said in str(refusal.value)
