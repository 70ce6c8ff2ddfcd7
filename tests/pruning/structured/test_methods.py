"""Every method's scores and counts against slow plain twins, on the real inputs of a tiny model's o and down."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.methods.structured.cfsp import Cfsp
from pruning.run import structured
from pruning.run.driver import prune
from pruning.structured.evidence import Fluctuation, importance
from pruning.structured.scores import ScoredBlock
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.errors import UserError
from workloads.removal import KV_GROUP, NEURON

IDS = token_ids(5, 12)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def seen(llama: Path):
    """(whole model, inputs by matrix (sequences, tokens, in), hidden states by block (before, after))."""
    model = load_whole(llama, torch.float32)
    inputs, hidden = {}, {}
    for name, module in model.named_modules():
        if name.endswith(("o_proj", "down_proj")):
            module.register_forward_pre_hook(lambda m, a, name=name: inputs.__setitem__(name, a[0].double().numpy()))
    for number, block in enumerate(model.model.layers):
        block.register_forward_hook(
            lambda m, a, out, n=number: hidden.__setitem__(
                n, (a[0].double().numpy(), (out[0] if isinstance(out, tuple) else out).double().numpy())
            )
        )
    with torch.no_grad():
        model(IDS)
    return model, inputs, hidden


def pruned(llama: Path, tmp_path: Path, method: str, sparsity: float, **settings):
    return prune(Checkpoint(llama), recipe(method, sparsity, ids=IDS, **settings), tmp_path / "out", quiet, quiet)


def weight(model, name: str) -> np.ndarray:
    return model.get_parameter(f"{name}.weight").detach().double().numpy()


def flat(inputs: np.ndarray) -> np.ndarray:
    return inputs.reshape(-1, inputs.shape[-1])


def metric(model, inputs, name: str, which: str) -> np.ndarray:
    x, w = flat(inputs[name]), weight(model, name)
    if which == "wifn":
        return np.abs(w).mean(axis=0) * np.sqrt((x**2).sum(axis=0) / len(IDS))
    spread = ((x - x.mean(axis=0)) ** 2).mean(axis=0)
    return spread * (w**2).sum(axis=0) if which == "wifv" else spread


def lowest(score: np.ndarray, count: int) -> set[int]:
    return set(np.argsort(score, kind="stable")[:count].tolist())


def gone(bundle, kind: str) -> dict[str, set[int]]:
    return {unit.module: set(np.flatnonzero(~unit.kept).tolist()) for unit in bundle.removal.units if unit.kind == kind}


@pytest.mark.parametrize("which", ["wifv", "wifn", "ifv"])
def test_flap_uniform(llama, seen, tmp_path, which):
    model, inputs, _ = seen
    bundle = pruned(llama, tmp_path, "flap", 0.3, structure="ul-um", metric=which, count="released", bias=False)
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    features = size * config.num_attention_heads // config.num_key_value_heads
    for module, removed in gone(bundle, NEURON).items():
        score = metric(model, inputs, f"{module}.down_proj", which)
        assert removed == lowest(score, int(0.3 * len(score)))
    for module, removed in gone(bundle, KV_GROUP).items():
        score = (metric(model, inputs, f"{module}.o_proj", which) ** 2).reshape(-1, features).sum(axis=1)
        assert removed == lowest(score, int(0.3 * len(score)))


@pytest.mark.parametrize("sparsity", [0.2, 0.5])
def test_flap_in_one_ranking(llama, seen, tmp_path, sparsity):
    model, inputs, _ = seen
    bundle = pruned(llama, tmp_path, "flap", sparsity)
    config, every = model.config, []
    size = config.hidden_size // config.num_attention_heads
    shared = config.num_attention_heads // config.num_key_value_heads
    for number in range(config.num_hidden_layers):
        for module, name, features in (("self_attn", "o_proj", shared * size), ("mlp", "down_proj", 1)):
            path = f"model.layers.{number}.{module}"
            score = metric(model, inputs, f"{path}.{name}", "wifv")
            if module == "self_attn":
                score = score**2
            score = (score - score.mean()) / score.std(ddof=1)
            score = score.reshape(-1, features).mean(axis=1)
            cost = config.hidden_size * (2 * shared * size + 2 * size if features > 1 else 3)
            best = int(score.argmax())
            every += [(value, path, unit, cost, unit == best) for unit, value in enumerate(score)]
    budget = sparsity * sum(cost for *_, cost, _ in every)
    taken, count, nearest = 0.0, 0, budget
    free = sorted(item for item in every if not item[4])
    for number, item in enumerate(free, 1):
        taken += item[3]
        if abs(taken - budget) < nearest:
            count, nearest = number, abs(taken - budget)
    expected = {(path, unit) for _, path, unit, _, _ in free[:count]}
    found = {(m, u) for kind in (KV_GROUP, NEURON) for m, units in gone(bundle, kind).items() for u in units}
    assert found == expected
    assert count > 0


def test_the_bias_is_what_goes_on_average(llama, seen, tmp_path):
    model, inputs, _ = seen
    bundle = pruned(llama, tmp_path, "flap", 0.4)
    tried = 0
    for name, cut in bundle.removal.cuts.items():
        if name.endswith(("o_proj", "down_proj")):
            expected = weight(model, name)[:, ~cut.cols] @ flat(inputs[name]).mean(axis=0)[~cut.cols]
            np.testing.assert_allclose(bundle.values(name)["bias"], expected, rtol=1e-4, atol=1e-6)
            tried += 1
    assert tried


def test_heads_given(llama, tmp_path):
    bundle = pruned(llama, tmp_path, "flap", 0.4, structure="al-mm", remove_heads=2)
    config = Checkpoint(llama).config
    shared = config.num_attention_heads // config.num_key_value_heads
    assert sum(map(len, gone(bundle, KV_GROUP).values())) * shared == 2
    with pytest.raises(UserError, match="needs `remove_heads`"):
        recipe("flap", 0.4, structure="al-mm")
    with pytest.raises(UserError, match="has no use for `remove_heads`"):
        recipe("flap", 0.4, remove_heads=3)


def test_wanda_sp_sees_pruned_inputs(llama, seen, tmp_path):
    """The first block's inputs are the dense model's; the second's are not, so its choice may differ from theirs."""
    model, inputs, _ = seen
    bundle = pruned(llama, tmp_path, "wanda-sp", 0.5, units="ffn")
    removed = gone(bundle, NEURON)
    score = metric(model, inputs, "model.layers.0.mlp.down_proj", "wifn")
    assert removed["model.layers.0.mlp"] == lowest(score, round(0.5 * len(score)))
    with torch.no_grad():
        down = model.model.layers[0].mlp.down_proj.weight
        kept = down.clone()
        down[:, sorted(removed["model.layers.0.mlp"])] = 0
        model(IDS)
        again = metric(model, inputs, "model.layers.1.mlp.down_proj", "wifn")
        down.copy_(kept)
        model(IDS)
    assert removed["model.layers.1.mlp"] == lowest(again, round(0.5 * len(again)))


def test_magnitude_sp(llama, seen, tmp_path):
    model = seen[0]
    bundle = pruned(llama, tmp_path, "magnitude-sp", 0.25, units="ffn")
    for module, removed in gone(bundle, NEURON).items():
        score = np.sqrt((weight(model, f"{module}.down_proj") ** 2).sum(axis=0))
        assert removed == lowest(score, round(0.25 * len(score)))


def test_second_order_weights_are_least_squares(llama, seen, tmp_path):
    """Of the first block's down, on the inputs of the dense model less what o's new weights change: so heads stay."""
    model, inputs, _ = seen
    bundle = pruned(llama, tmp_path, "obs-sp", 0.5, units="ffn", damp=0.0001, block=1)
    name = "model.layers.0.mlp.down_proj"
    cut, x, w = bundle.removal.cuts[name], flat(inputs[name]), weight(model, name)
    made = bundle.values(name)["float32"]
    gram = x.T @ x
    gram = gram + 0.0001 * np.diag(gram).mean() * np.eye(len(gram))
    best = w @ gram[:, cut.cols] @ np.linalg.inv(gram[np.ix_(cut.cols, cut.cols)])
    np.testing.assert_allclose(made, best, atol=2e-3 * np.abs(best).max())
    plain = x[:, cut.cols] @ w[:, cut.cols].T - x @ w.T
    better = x[:, cut.cols] @ made.T - x @ w.T
    assert (better**2).sum() < (plain**2).sum()


def angles(before: np.ndarray, after: np.ndarray) -> list[float]:
    """In degrees of a half turn, token by token."""
    pairs = zip(before.reshape(-1, before.shape[-1]), after.reshape(-1, after.shape[-1]), strict=True)
    return [math.acos(max(-1, min(1, u @ v / (np.linalg.norm(u) * np.linalg.norm(v))))) / math.pi for u, v in pairs]


def test_cfsp(llama, seen, tmp_path):
    model, inputs, hidden = seen
    bundle = pruned(llama, tmp_path, "cfsp", 0.3, slope=4.0)
    mean = {number: np.mean(angles(*pair)) for number, pair in hidden.items()}
    middle = np.mean(list(mean.values()))
    share = {n: 1 / (1 + math.exp(-4 * (value - middle))) for n, value in mean.items()}
    whole = np.mean(list(share.values()))
    wanted = {n: 0.7 * value / whole for n, value in share.items()}
    assert max(wanted.values()) < 1
    kept = {}
    for module, removed in gone(bundle, NEURON).items():
        norm = np.sqrt((flat(inputs[f"{module}.down_proj"]) ** 2).sum(axis=0))
        assert removed == lowest(norm, len(removed))
        kept[int(module.split(".")[2])] = len(norm) - len(removed)
    size = model.config.intermediate_size
    assert all(abs(kept[n] - size * wanted[n]) < 1 for n in kept)
    assert sum(kept.values()) == round(sum(size * value for value in wanted.values()))


def test_cfsp_shares_never_exceed_one_and_keep_their_mean():
    blocks = [ScoredBlock(n, (), {}, {"angular": value}, 1) for n, value in enumerate((0.0, 0.1, 0.9))]
    for sparsity in (0.0, 0.05, 0.3, 0.7):
        shares = Cfsp(slope=30.0).shares(blocks, sparsity)
        assert max(shares) <= 1 + 1e-12
        assert np.mean(shares) == pytest.approx(1 - sparsity)
    assert Cfsp(importance="uniform").shares(blocks, 0.25) == [0.75] * 3


def test_released_cfsp_counts(llama, tmp_path):
    """int(f x share) + 1, uniform shares: of the 1 - sparsity that is left."""
    bundle = pruned(llama, tmp_path, "cfsp", 0.3, importance="uniform", count="released")
    for unit in bundle.removal.units:
        assert int(unit.kept.sum()) == int(len(unit.kept) * 0.7) + 1


def test_row_relative_scores(llama, seen, tmp_path):
    model, inputs, _ = seen
    bundle = pruned(llama, tmp_path, "cfsp", 0.5, score="row-relative", importance="uniform")
    for module, removed in gone(bundle, NEURON).items():
        norm = np.sqrt((flat(inputs[f"{module}.down_proj"]) ** 2).sum(axis=0))
        total = np.zeros_like(norm)
        for name, transposed in (("down_proj", False), ("up_proj", True), ("gate_proj", True)):
            each = np.abs(weight(model, f"{module}.{name}"))
            each = (each.T if transposed else each) * (1 if transposed else norm)
            total += (each / each.sum(axis=1, keepdims=True)).mean(axis=0)
        assert removed == lowest(total * norm, len(removed))


def test_shortgpt(llama, seen, tmp_path):
    hidden = seen[2]
    bundle = pruned(llama, tmp_path, "shortgpt", 0.5)
    influence = {n: np.mean([1 - math.cos(math.pi * angle) for angle in angles(*pair)]) for n, pair in hidden.items()}
    assert bundle.removal.blocks == frozenset(sorted(influence, key=influence.__getitem__)[: len(influence) // 2])
    with pytest.raises(UserError, match="blocks would go"):
        pruned(llama, tmp_path / "all", "shortgpt", 0.99)


def test_importances():
    """Two tokens: a quarter turn, and the same direction at twice the length."""
    before = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    after = torch.tensor([[[0.0, 2.0], [2.0, 2.0]]])
    found = importance(before, after)
    assert found["angular"] == pytest.approx(0.5, abs=1e-7)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert found["mse"] == pytest.approx((1 + 4) / 2 + (1 + 1) / 2)
    assert found["mae"] == pytest.approx((1 + 2) / 2 + (1 + 1) / 2)


def test_released_fluctuation():
    """The running means, sequence by sequence, as the closed form was read from the program."""
    draw = np.random.default_rng(0)
    sequences = [draw.standard_normal((7, 3)) + n for n in range(4)]
    stream = Fluctuation()
    for x in sequences:
        stream.add(torch.from_numpy(x.sum(axis=0)), torch.from_numpy((x**2).sum(axis=0)), len(x))
    expected = np.zeros(3)
    for k in range(1, 5):
        mean = np.concatenate(sequences[:k]).mean(axis=0)
        expected += (k - 1) / (k * 3) * ((sequences[k - 1] - mean) ** 2).sum(axis=0)
    np.testing.assert_allclose(stream.value.numpy(), expected)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("cfsp", {"pattern": "2:4"}, "cfsp takes whole units out and has no `pattern`"),
        ("flap", {"bits": 4}, "flap takes whole units out and has no `bits`"),
        ("wanda", {"multiple_of": 8}, "`multiple_of` is for structured methods; wanda makes no matrix smaller"),
        ("cfsp", {"multiple_of": 0}, "`multiple_of` must be at least 1, it is 0"),
        ("shortgpt", {"multiple_of": 8}, "`multiple_of` is of FFN neurons, and shortgpt takes whole blocks or sub-la"),
        ("flap", {"units": "heads", "multiple_of": 8}, "of FFN neurons, and flap takes only kv groups out; leave it"),
        ("cfsp", {"slop": 1.0}, "cfsp has no parameter 'slop'"),
        ("cfsp", {"slope": math.nan}, "cfsp: slope = nan: it must be a finite number"),
        ("obs-sp", {"damp": math.inf}, "obs-sp: damp = inf: it must be a finite number"),
        ("flap", {"structure": "al-mm", "remove_heads": 2, "units": "ffn"}, "removes heads and neurons"),
    ],
)
def test_settings_that_cannot_be(method, settings, message):
    with pytest.raises(UserError, match=message):
        recipe(method, 0.5, **settings)


def test_all_heads(llama, tmp_path):
    with pytest.raises(UserError, match="is all of the model's"):
        pruned(llama, tmp_path, "flap", 0.5, structure="ul-mm", remove_heads=999)
    assert not (tmp_path / "out" / "bundle.json").exists()


def test_multiples_are_refused_before_anything_runs(llama, tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("nothing may be scored")

    monkeypatch.setattr(structured, "score_blocks", never)
    with pytest.raises(UserError, match="hold no multiple of"):
        pruned(llama, tmp_path, "cfsp", 0.5, multiple_of=5000)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("method", "sparsity", "settings", "said"),
    [
        ("shortgpt", 0.2, {}, "nothing goes: a sparsity of 20.0% is nearer to none than to the least that could go"),
        ("cfsp", 0.2, {"multiple_of": 32}, "asked for 20.0% of the units' weights, 33.3% go: .* in multiples of 32"),
        ("cfsp", 0.2, {"multiple_of": 48}, "nothing goes"),
        ("wanda-sp", 0.97, {}, "asked for 97.0% of the units' weights, .* keeps at least one"),
        ("cfsp", 0.5, {}, ""),
    ],
)
def test_what_units_miss_is_said(llama, tmp_path, method, sparsity, settings, said):
    """The tiny model has 2 blocks of 48 neurons."""
    words: list[str] = []
    prune(Checkpoint(llama), recipe(method, sparsity, ids=IDS, **settings), tmp_path / "out", quiet, words.append)
    assert re.search(said, " ".join(words)) if said else not words
