"""Tokens of experts: against every way a router can choose, and in rows of accelerators and GPUs."""

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest

from simulator.accelerators.named import open_accelerator
from simulator.gpu.layers import open_gpu
from simulator.gpu.prediction import predict
from simulator.layer_rows import evaluate
from simulator.simulate import rows_on, simulate_layers
from simulator.statistics import StatisticsStore
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.experts import Experts
from workloads.operations import Linear, linears_in_memory
from workloads.routing import UNKNOWN, Load, Routing
from workloads.routing_counts import parse_routing

TOP2OF4 = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
HEADER = BundleHeader("tiny", "x", model_config=TOP2OF4)


def moe_layers(alike: bool = True, experts: int = 4) -> list[Linear]:
    """q, and the two matrices of every expert; 2:4 masks, the same for all experts or one each."""
    names = ["model.layers.0.self_attn.q_proj"]
    names += [
        f"model.layers.0.mlp.experts.{kind}.{e}" for kind in ("gate_up_proj", "down_proj") for e in range(experts)
    ]
    layers = []
    for number, name in enumerate(names):
        rows, cols = (256, 64) if "gate_up" in name else (64, 128) if "down" in name else (64, 64)
        rng = np.random.default_rng(0 if alike else number)
        kept = np.argsort(rng.random((rows, cols // 4, 4)), axis=2).reshape(rows, cols) < 2
        mask = PackedMask.from_dense(kept)
        role = "expert_gate_up" if "gate_up" in name else "expert_down" if "down" in name else "q"
        layers.append((LayerEntry(name, role, 0, rows, cols, "2:4", mask.nnz, None, mask.sha256(), ""), mask))
    return list(linears_in_memory(layers))


def rows_of(on: str, tokens: int, routing: Routing = Routing(), header: BundleHeader = HEADER, alike: bool = True):  # noqa: B008
    conditions = Conditions(tokens, routing=routing)
    return list(simulate_layers([open_accelerator(on)], header, moe_layers(alike), conditions))


def chosen(experts: Experts, tokens: int) -> tuple[Fraction, Fraction]:
    """(probability that expert 0 is hit, mean of its tokens if it is), over every choice that every token can make."""
    sets = list(itertools.combinations(range(experts.count), experts.per_token))
    seen = [sum(0 in one for one in step) for step in itertools.product(sets, repeat=tokens)]
    hits = [n for n in seen if n]
    return Fraction(len(hits), len(seen)), Fraction(sum(hits), len(hits))


@pytest.mark.parametrize(
    ("count", "per_token", "tokens"), [(4, 2, 1), (4, 2, 2), (4, 2, 4), (3, 1, 5), (5, 4, 3), (8, 1, 3)]
)
def test_uniform_is_the_mean_over_all_choices(count, per_token, tokens):
    config = {"num_experts": count, "num_experts_per_tok": per_token}
    load = Routing().load(BundleHeader("m", "x", model_config=config), moe_layers()[1], tokens)
    hit, each = chosen(Experts(count, per_token), tokens)
    assert load.executions == pytest.approx(float(hit), rel=1e-12)
    assert load.tokens == pytest.approx(float(each), rel=1e-12)
    assert load.executions * load.tokens == pytest.approx(tokens * per_token / count, rel=1e-12)
    assert sum(weight for _, weight in load.parts) == pytest.approx(load.executions)
    assert sum(weight * n for n, weight in load.parts) == pytest.approx(tokens * per_token / count)


@pytest.mark.parametrize(("tokens", "hit", "each"), [(1, 2 / 4, 1.0), (2, 1.0, 1.0), (3, 1.0, 1.5), (64, 1.0, 32.0)])
def test_balanced_hits_as_many_as_there_can_be(tokens, hit, each):
    load = Routing("balanced").load(HEADER, moe_layers()[1], tokens)
    assert (load.executions, load.tokens) == (hit, each)


def test_dense_and_shared_matrices_get_all_tokens():
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.shared_expert.up_proj"):
        entry = LayerEntry(name, "q", 0, 4, 4, "unstructured", 8, None, "", "")
        assert Routing().load(HEADER, entry, 7) == Load(7)


@pytest.mark.parametrize("on", ["stc", "vitcod", "sparten", "eie"])
@pytest.mark.parametrize(("tokens", "share"), [(64, 1), (1, Fraction(1, 2))])
def test_rows_add_up_to_what_a_step_takes(on, tokens, share):
    """Top 2 of 4, 64 tokens: each expert has 32. One token: each is hit in every second step, with that token."""
    sets = [] if on != "eie" else ["buffers.weight_kib=4096"]
    target, store = open_accelerator(on, sets), StatisticsStore()
    rows = list(simulate_layers([target], HEADER, moe_layers(), Conditions(tokens)))
    alone = [evaluate(target, layer, Conditions(tokens // 2 if tokens > 1 else 1), store) for layer in moe_layers()]
    first = evaluate(target, moe_layers()[0], Conditions(tokens), store)
    for name, part in (("cycles", "sparse"), ("dense_cycles", "dense")):
        expected = getattr(first, part).cycles + share * sum(getattr(one, part).cycles for one in alone[1:])
        assert sum(row[name] for row in rows) == expected
    for row in rows:
        assert row["cycles"] == row["compute_cycles"] + row["stall_cycles"]
        assert row["buffer_stall_cycles"] <= row["stall_cycles"]
    assert [row["executions"] for row in rows] == [1, *[pytest.approx(float(share))] * 8]
    assert [row["routing"] for row in rows] == ["", *["uniform, top 2 of 4"] * 8]
    assert {row["tokens"] for row in rows} == {tokens}
    energy = [simulate_one(target, layer, tokens // 2 or 1) for layer in moe_layers()]
    assert sum(row["energy_pj"] for row in rows[1:]) == pytest.approx(float(share) * sum(energy[1:]))


def simulate_one(target, layer, tokens):
    """Energy of a layer that sees `tokens`, taken for a dense one."""
    (row,) = simulate_layers([target], BundleHeader("m", "x"), [layer], Conditions(tokens))
    return row["energy_pj"]


def test_many_rarely_hit_experts_round_to_the_right_sum():
    """1 of 64, one token: 1/64 of the cycles of each; single rows are cut to whole cycles, their sum is not."""
    config = {"num_experts": 64, "num_experts_per_tok": 1}
    target, layers = open_accelerator("stc"), moe_layers(experts=64)[1:65]
    rows = list(simulate_layers([target], BundleHeader("m", "x", model_config=config), layers, Conditions(1)))
    once = evaluate(target, layers[0], Conditions(1), StatisticsStore()).sparse
    for name in ("cycles", "compute_cycles", "stall_cycles"):
        assert sum(row[name] for row in rows) == pytest.approx(getattr(once, name), abs=1)


def test_fractions_of_tokens_lie_between_the_whole_ones():
    (row,) = (r for r in rows_of("stc", 3, Routing("balanced")) if r["layer"].endswith("down_proj.0"))
    target, layer = open_accelerator("stc"), moe_layers()[5]
    assert row["layer_tokens"] == 1.5
    one, two = (evaluate(target, layer, Conditions(n), StatisticsStore()).sparse for n in (1, 2))
    assert row["weight_bytes"] == one.weight_bytes
    assert row["activation_bytes"] == pytest.approx((one.activation_bytes + two.activation_bytes) / 2, abs=1)


def test_gpu_rows():
    target = open_gpu("a100-sxm", [], "fp16")
    for routing, tokens, n, hit in ((Routing(), 1024, 512, 1.0), (Routing("balanced"), 1, 1, 0.5)):
        rows = list(rows_on([target], HEADER, moe_layers(), Conditions(tokens, routing=routing)))
        found = predict(target.spec, n, 256, 64, "fp16")
        assert rows[1]["latency_us"] == pytest.approx(hit * found.sparse24.time_us[0])
        assert rows[1]["dense_latency_us"] == pytest.approx(hit * found.dense.time_us[0])
        assert rows[1]["speedup"] == pytest.approx(found.speedup[0])
        assert (rows[0]["executions"], rows[0]["layer_tokens"]) == (1, tokens)
        assert ("routing=balanced" in rows[1]["settings"]) == (tokens == 1)


def test_without_a_config_every_expert_gets_all_tokens_and_the_rows_say_so():
    rows = rows_of("stc", 6, header=BundleHeader("m", "x"))
    assert {(row["layer_tokens"], row["executions"], row["routing"]) for row in rows} == {(6, 1, ""), (6, 1, UNKNOWN)}
    assert {row["settings"] for row in rows_of("stc", 6, Routing("balanced"), BundleHeader("m", "x"))} == {""}


def counts_of(tmp_path, content) -> Routing:
    (tmp_path / "counts.json").write_text(json.dumps(content))
    return parse_routing("counts.json", tmp_path)


def test_counts_that_add_up_are_taken_as_they_are(tmp_path):
    routing = counts_of(tmp_path, [6, 4, 2, 0])  # 6 tokens x 2
    rows = rows_of("stc", 6, routing)[1:5]
    assert [(row["layer_tokens"], row["executions"]) for row in rows] == [(6, 1), (4, 1), (2, 1), (0, 0)]
    assert rows[3]["cycles"] == rows[3]["dense_cycles"] == 0
    assert rows[3]["speedup"] is None
    assert rows[0]["settings"].startswith("routing=counts:")


def test_other_counts_are_shares(tmp_path):
    """50, 25, 25, 0 % of two visits a token: expert 0 sees each token, 1 and 2 every second one."""
    rows = rows_of("stc", 2, counts_of(tmp_path, {"0": [500, 250, 250, 0]}))[1:5]
    twice = 1 - Fraction(1, 2) ** 2
    assert [row["executions"] for row in rows] == pytest.approx([1, float(twice), float(twice), 0])
    assert [row["layer_tokens"] for row in rows] == pytest.approx([2, float(1 / twice), float(1 / twice), 0])


MISTAKES = {
    "another word": ("even", None, "uniform, balanced, or the tokens of each expert"),
    "no file": ("none.json", None, "no such file"),
    "not JSON": ("counts.json", "{", "counts"),
    "a number": ("counts.json", "3", "expected a list"),
    "empty": ("counts.json", "{}", "expected a list"),
    "negative": ("counts.json", "[1, -1, 1, 1]", "numbers from 0"),
    "NaN": ("counts.json", "[1, NaN, 1, 1]", "numbers from 0|NaN"),
    "texts": ("counts.json", '["1", "2"]', "numbers from 0"),
    "no token": ("counts.json", "[0, 0, 0, 0]", "no expert gets a token"),
    "no block": ("counts.json", '{"first": [1, 1, 1, 1]}', "no block number"),
    "another block": ("counts.json", '{"7": [1, 1, 1, 1]}', "no counts for block 0; there are some for 7"),
    "too few": ("counts.json", "[1, 1]", "2 counts for block 0, which has 4 experts"),
    "too many for one": ("counts.json", "[9, 1, 1, 1]", "expert 0 has 9 of 12 visits, more than one a token"),
    "a share above one": ("counts.json", "[90, 1, 1, 1]", "more than one a token with top 2 of 4"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, tmp_path):
    text, content, message = MISTAKES[mistake]
    if content is not None:
        (tmp_path / text).write_text(content)
    with pytest.raises(UserError, match=message):
        rows_of("stc", 6, parse_routing(text, tmp_path))
