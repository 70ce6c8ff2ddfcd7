"""The parts of fine-tuning: schedules, ranks, held weights, adapters, losses, examples."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.config import FinetuneConfig
from pruning.data.pairs import read_pairs
from pruning.data.tokenizer import load_tokenizer
from pruning.evaluation.whole_model import whole_model
from pruning.quantization_grid import QuantizationGrid, fit, quantize
from pruning.recovery.examples import read_examples, training_and_held_out
from pruning.recovery.masked_adapters import MaskedAdapter
from pruning.recovery.masked_weights import FullWeight, on_grid
from pruning.recovery.plan import make_plan
from pruning.recovery.ranks import ranks_by_importance, read_importance
from pruning.recovery.schedule import Schedule
from pruning.recovery.start import load_student, recompute_activations
from pruning.recovery.text_objective import IGNORED, TextObjective
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet, save, save_tokenizer, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError


def test_ranks_by_hand() -> None:
    assert ranks_by_importance(8, [1, 1, 1]) == [8, 8, 8]
    assert ranks_by_importance(4, [3, 1]) == [6, 2]
    assert ranks_by_importance(2, [5, 3, 3]) == [3, 2, 1]  # 2.73, 1.64, 1.64: two to give, the tie to the earlier
    assert ranks_by_importance(2, [10, 0, 0]) == [4, 1, 1]  # 6, 0, 0: none below 1
    assert ranks_by_importance(1, [5, 1]) == [1, 1]


@given(st.integers(1, 64), st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_ranks_sum_up_and_keep_the_order(rank: int, importance: list[float]) -> None:
    if sum(importance) == 0:
        with pytest.raises(UserError, match="not all 0"):
            ranks_by_importance(rank, importance)
        return
    ranks = ranks_by_importance(rank, importance)
    assert sum(ranks) == rank * len(importance)
    assert min(ranks) >= 1
    assert all(a >= b for a, i in zip(ranks, importance, strict=True) for b, j in zip(ranks, importance, strict=True)
               if i > j * (1 + 1e-9) + 1e-9)  # fmt: skip


def test_importances_that_are_none() -> None:
    assert read_importance("1, 0.5,2", 3) == [1, 0.5, 2]
    for text, said in (("much", "numbers with commas"), ("1,2", "gives 2 numbers, the model has 3 blocks")):
        with pytest.raises(UserError, match=said):
            read_importance(text, 3)
    for bad in ([1, -1], [math.nan, 1], [math.inf]):
        with pytest.raises(UserError, match="at least 0"):
            ranks_by_importance(8, bad)


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=10, lr=1.0, warmup=4, batch=1, seed=0)
    rates = [schedule.lr_at(step) for step in range(10)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.5)  # half way down
    assert rates[9] == pytest.approx((1 + math.cos(math.pi * 5 / 6)) / 2)
    assert min(rates) > 0


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 5))
def test_every_sequence_once_a_round(count: int, batch: int, seed: int) -> None:
    schedule = Schedule(100, 1.0, 0, batch, seed)
    taken = [n for step in range(3 * count) for n in schedule.sequences_at(step, count)]
    for start in range(0, 3 * count * batch, count):
        assert sorted(taken[start : start + count]) == list(range(count))


def test_rounds_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(Schedule(9, 1.0, 0, 20, seed).sequences_at(step, 20)) for seed in (0, 1) for step in (0, 1, 2)}
    assert len(orders) == 6


def ref_of(tmp_path: Path) -> object:
    return all_refs(Checkpoint(save("llama", tmp_path / "m")))[0][0]


def drawn(rows: int, cols: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scaled", [False, True])
def test_a_grid_is_kept_and_its_own_points_stay(scaled: bool) -> None:
    weight = drawn(6, 16)
    grid = QuantizationGrid(3, 8)
    made = quantize(weight, *fit(weight, grid), grid)
    if scaled:
        made = replace(made, input_scale=drawn(1, 16, 1)[0].abs() + 0.5)
    again = on_grid(made.dequantize(), made)
    assert torch.equal(again.codes, made.codes)
    far = on_grid(torch.full((6, 16), 1e9), made)
    assert bool((far.codes == grid.top).all())


def test_gradients_reach_survivors_alone_and_pass_rounding(tmp_path: Path) -> None:
    weight, keep = drawn(6, 16), drawn(6, 16, 1) > 0
    grid = QuantizationGrid(3, 8)
    made = quantize(weight, *fit(weight, grid), grid).masked(keep)
    for quantized in (None, made):
        own = FullWeight(ref_of(tmp_path), keep, quantized, weight)
        gradient = drawn(6, 16, 2)
        own.receive(gradient)
        assert torch.equal(own.parameters[0].grad, gradient * keep)


def test_weights_beyond_a_grid_come_back_to_its_ends(tmp_path: Path) -> None:
    weight = drawn(6, 16)
    grid = QuantizationGrid(4, 0)
    made = quantize(weight, *fit(weight, grid), grid)
    own = FullWeight(ref_of(tmp_path), torch.ones(6, 16, dtype=torch.bool), made, 100 * weight)
    own.settle()
    low, high = -made.zero.float() * made.scale, (15 - made.zero.float()) * made.scale
    assert torch.equal(own.free().detach(), torch.minimum(torch.maximum(100 * weight, low), high))


def test_merging_an_adapter_changes_nothing(tmp_path: Path) -> None:
    """y = ((W + 2 B A) .* M) x, against the three products written out entry by entry; A and B have its gradients."""
    weight, keep, x = drawn(6, 16), drawn(6, 16, 1) > 0, drawn(5, 16, 2)
    own = MaskedAdapter(ref_of(tmp_path), keep, None, weight, 3, 0)
    a, b = own.parameters
    assert torch.equal(own.decision().weight, weight * keep)  # B starts at 0
    b.data.copy_(drawn(6, 3, 3))
    merged = own.decision().weight
    for row in range(6):
        for token in range(5):
            wanted = sum(
                float(x[token, col]) * (float(weight[row, col]) + 2 * float(b[row].detach() @ a[:, col].detach()))
                for col in range(16)
                if keep[row, col]
            )
            assert float(x[token] @ merged[row]) == pytest.approx(wanted, abs=1e-4)
    gradient = drawn(6, 16, 4)
    own.receive(gradient)
    held = (gradient * keep).double()
    assert torch.allclose(a.grad.double(), 2 * b.detach().double().T @ held, atol=1e-5)
    assert torch.allclose(b.grad.double(), 2 * held @ a.detach().double().T, atol=1e-5)


def test_adapters_start_by_seed_and_name_and_have_no_more_ranks_than_sides(tmp_path: Path) -> None:
    ref, keep = ref_of(tmp_path), torch.ones(6, 16, dtype=torch.bool)
    first, same, other = (MaskedAdapter(ref, keep, None, drawn(6, 16), 99, seed).parameters[0] for seed in (0, 0, 1))
    assert first.shape == (6, 16)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert float(first.detach().abs().max()) <= 1 / 4


def whole(folder: Path) -> Checkpoint:
    checkpoint = Checkpoint(folder)
    whole_model(checkpoint, None).requires_grad_(False)
    return checkpoint


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_distances_are_zero_to_oneself_and_are_what_they_are_called(family: str, tmp_path: Path) -> None:
    folder, ids = save(family, tmp_path / "model"), token_ids(2, 12)
    labels = ids.clone()
    labels[0, :5] = IGNORED
    counted = (labels[:, 1:] != IGNORED).numpy()
    other = save(family, tmp_path / "other", seed=1)
    text = TextObjective(whole(folder), None, None, 0.0)
    for distill in ("logits", "layers"):
        alone = TextObjective(whole(folder), whole(folder), distill, 3.0)
        assert float(alone((ids, labels))) == pytest.approx(float(text((ids, labels))), rel=1e-6)
    both = [checkpoint.model(input_ids=ids, output_hidden_states=True) for checkpoint in (whole(folder), whole(other))]
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (o.logits[:, :-1].double().numpy() for o in both))
    nll = -np.log(np.take_along_axis(p, ids[:, 1:, None].numpy(), 2))[..., 0][counted].sum()
    assert float(text.own_loss((ids, labels))) == pytest.approx(nll, rel=1e-5)
    kl = (q * (np.log(q) - np.log(p))).sum(-1)[counted].sum()
    found = TextObjective(whole(folder), whole(other), "logits", 0.5)((ids, labels))
    assert float(found) == pytest.approx(nll + 0.5 * kl, rel=1e-4)


def test_the_distance_of_layers_by_hand(tmp_path: Path) -> None:
    folder, other, ids = save("llama", tmp_path / "model"), save("llama", tmp_path / "other", seed=1), token_ids(2, 12)
    states = []
    for path in (folder, other):
        checkpoint, found = whole(path), []
        for block in checkpoint.blocks:
            block.register_forward_hook(lambda *args, own=found: own.append(args[2].double().numpy()[:, :-1]))
        checkpoint.model(input_ids=ids)
        states.append(found)
    wanted = np.mean([(((h - g) ** 2).sum(-1) / (g**2).sum(-1)).sum() for h, g in zip(*states, strict=True)])
    text = TextObjective(whole(folder), None, None, 0.0)((ids, ids))
    found = TextObjective(whole(folder), whole(other), "layers", 2.0)((ids, ids))
    assert float(found - text) == pytest.approx(2 * wanted, rel=1e-4)


def test_recomputed_activations_are_not_kept(tmp_path: Path) -> None:
    """Each inner module runs twice, forwards and again for the backward pass; gradients stay the same bits."""
    folder, ids = save("llama", tmp_path / "model"), token_ids(2, 12)
    found = []
    for recompute in (False, True):
        checkpoint = Checkpoint(folder)
        load_student(checkpoint, MaskBundle.open(masks_of(folder, tmp_path / f"masks-{recompute}")), recompute)
        calls: list[int] = []
        checkpoint.blocks[0].mlp.register_forward_pre_hook(lambda *_, own=calls: own.append(1))
        weight = checkpoint.blocks[0].mlp.up_proj.weight.requires_grad_()
        objective = TextObjective(checkpoint, whole(folder), "layers", 1.0)
        found.append((*torch.autograd.grad(objective((ids, ids)), weight), len(calls)))
    (plain, once), (again, twice) = found
    assert (once, twice) == (1, 2)
    assert torch.equal(plain, again)
    mamba = Checkpoint(save("mamba", tmp_path / "mamba"))
    mamba.model.supports_gradient_checkpointing = False
    with pytest.raises(NotForThisModel, match="leave `recompute` out"):
        recompute_activations(mamba)


def masks_of(model: Path, folder: Path) -> Path:
    return prune(Checkpoint(model), recipe("magnitude", rule="row"), folder, quiet, quiet).folder


@pytest.fixture
def model(tmp_path: Path) -> Checkpoint:
    folder = save("llama", tmp_path / "model")
    save_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.eos_token = "</s>"
    tokenizer.save_pretrained(folder)
    return Checkpoint(folder)


def letters(text: str) -> list[int]:
    return [3 + "abcdefghijklmnopqrstuvwxyz0123456789 .,!?\n".index(letter) for letter in text]


def test_a_text_becomes_windows_and_the_last_are_held_out(model: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcdefghijklmnopqrstuvwxyz")
    training, held = training_and_held_out(model, str(tmp_path / "t.txt"), 0.25, 5, 100, quiet)
    stream = [1, *letters("abcdefghijklmnopqrstuvwxyz")]
    assert training.ids.tolist() == [stream[n : n + 5] for n in range(0, 20, 5)]
    assert held.ids.tolist() == [stream[20:25]]
    assert torch.equal(training.labels, training.ids)
    (tmp_path / "h.txt").write_text("zzzzz")
    training, held = training_and_held_out(model, str(tmp_path / "t.txt"), str(tmp_path / "h.txt"), 5, 100, quiet)
    assert (len(training), held.ids.tolist()) == (5, [[1, *letters("zzzz")]])
    with pytest.raises(UserError, match="has 27 tokens, fewer than one sequence of 28"):
        training_and_held_out(model, str(tmp_path / "t.txt"), 0.25, 28, 100, quiet)


def test_documents_end_with_the_end_of_text_and_are_read_as_far_as_needed(model: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(json.dumps({"text": letter * 3}) for letter in "abcdef"))
    found = read_examples(model, str(path), "`text`", 5, 3, quiet)
    assert found.ids.tolist() == [[1, *letters(letter * 3), 2] for letter in "abc"]
    assert len(read_examples(model, str(path), "`text`", 5, 99, quiet)) == 6


@pytest.mark.parametrize("array", [False, True])
def test_of_prompts_and_completions_the_completions_are_predicted(
    array: bool, model: Checkpoint, tmp_path: Path
) -> None:
    pairs = [{"prompt": "ab", "completion": "cde"}, {"prompt": "fghijk", "completion": "l", "id": 7}]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(pairs) if array else "\n".join(map(json.dumps, pairs)))
    warned: list[str] = []
    found = read_examples(model, str(path), "`text`", 7, 9, warned.append)
    first, second = [1, *letters("abcde"), 2], [*letters("ghijkl"), 2]
    assert found.ids.tolist() == [first, second]
    assert found.labels.tolist() == [[-100] * 3 + first[3:], [-100] * 5 + second[5:]]
    assert warned == ["1 of 2 prompts lost their first tokens: with their completions they exceed 7"]
    assert found.facts["predicted_tokens"] == 4 + 2
    long = read_examples(model, str(path), "`text`", 64, 9, warned.append)
    ids, labels = long.take([0])
    assert ids.tolist() == [first]
    assert labels.shape == ids.shape
    with pytest.raises(UserError, match=r"(line|item) 1: its completion has 4 tokens"):
        read_examples(model, str(path), "`text`", 4, 9, quiet)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}',
            'line 2: expected an object with a text under "prompt"',
        ),
        ('{"prompt": "a", "completion": "b"}\n\n{"prompt"', "line 3 is not JSON"),
        ('{"prompt": "a", "completion": ""}', "line 1: its completion is empty"),
        ('[{"prompt": "a", "completion": 3}]', "item 1: expected an object"),
    ],
)
def test_pairs_that_are_none(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(UserError) as refusal:
        read_pairs(tmp_path / "p.jsonl")
    assert said in str(refusal.value)


@pytest.mark.parametrize("content", ["plain text", '{"text": "a"}', '[{"text": "a"}]', "[1] in brackets", "{", "[", ""])
def test_other_files_hold_no_pairs(content: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(content)
    assert read_pairs(tmp_path / "p") is None


def test_the_default_rate_follows_the_hidden_size() -> None:
    """1e-4 at 4096, twice that at a quarter of it; adapters three times as much; what is asked for stays."""
    asked = FinetuneConfig(text="a.txt", steps=4)
    assert make_plan(asked).for_hidden(4096).schedule.lr == 1e-4
    assert make_plan(asked).for_hidden(1024).schedule.lr == 2e-4
    assert make_plan(replace(asked, mode="lora")).for_hidden(1024).schedule.lr == 6e-4
    assert make_plan(replace(asked, lr=5e-3)).for_hidden(1024).schedule.lr == 5e-3
