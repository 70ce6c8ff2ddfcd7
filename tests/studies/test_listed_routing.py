"""Counts of tokens by expert, in whole models: from files and lists, on a GPU and on an accelerator."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import prunesim as ps
from checkpoints.decoders import decoder_of
from studies.cli.main import main
from workloads.counts import Elements
from workloads.decoder.accounting import account, total
from workloads.decoder.routed import routed
from workloads.errors import UserError
from workloads.phases import decode, prefill
from workloads.routing_counts import given_routing, parse_routing

CONFIG = {
    "model_type": "mixtral", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000, "num_local_experts": 4,
    "num_experts_per_tok": 2,
}  # fmt: skip
DECODER = decoder_of(CONFIG)
SIDES = {"w1": (512, 256), "w2": (256, 512), "w3": (512, 256)}
ROLES = {"w1": "expert_gate", "w2": "expert_down", "w3": "expert_up"}


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "experts.json").write_text(json.dumps(CONFIG))
    return tmp_path / "experts.json"


def experts_of(decoder, phase, routing="uniform"):
    rows = [row for row in account(decoder, phase, Elements(routing=routing)) if row.operation.role == "experts"]
    return total(rows), len(rows)


@pytest.mark.parametrize("phase", [prefill(2, 20), decode(3, 21), decode(1, 1)])
def test_equal_shares_are_uniform_routing(phase):
    found, _ = experts_of(routed(DECODER, given_routing([0.25, 0.25, 0.25, 0.25])), phase)
    expected, _ = experts_of(DECODER, phase)
    for part in ("flop", "bytes_weight", "bytes_act"):
        assert getattr(found, part) == pytest.approx(getattr(expected, part), rel=1e-12)


def test_two_experts_take_all():
    """Top 2: both are hit by every token, their weights alone move; the same visits as by any routing."""
    found, kinds = experts_of(routed(DECODER, given_routing([0, 7, 7, 0])), decode(5, 9))
    assert kinds == 1
    assert found.bytes_weight == 2 * 2 * sum(rows * cols for rows, cols in SIDES.values()) * 2
    assert found.flop == pytest.approx(experts_of(DECODER, decode(5, 9))[0].flop)


def test_every_choice_of_two_tokens_by_share():
    """Shares 1, 1/2, 1/4, 1/4 of the tokens, each expert by itself, over all outcomes of two tokens."""
    shares = [1, 0.5, 0.25, 0.25]
    hit = sum(1 - np.prod([1 - share] * 2) for share in shares)
    found, _ = experts_of(routed(DECODER, given_routing([4, 2, 1, 1])), prefill(1, 2))
    assert found.bytes_weight == pytest.approx(2 * hit * 3 * 256 * 512 * 2)


def test_shares_are_not_taken_for_a_step():
    """Of 2 visits a token, as shares that add up to 2: with one token the same as with any other number's shares."""
    shares, counts = (routed(DECODER, given_routing(each)) for each in ([0.9, 0.5, 0.4, 0.2], [9, 5, 4, 2]))
    moved = [experts_of(decoder, decode(1, 9))[0].bytes_weight for decoder in (shares, counts)]
    assert moved[0] == pytest.approx(moved[1])


def test_blocks_of_their_own_counts():
    two = routed(DECODER, given_routing({0: [1, 1, 0, 0], 1: [1, 0.5, 0.5, 0]}))
    assert experts_of(two, decode(1, 9))[1] == 2
    alike = routed(DECODER, given_routing({0: [1, 1, 0, 0], 1: [1, 1, 0, 0]}))
    assert experts_of(alike, decode(1, 9))[1] == 1


def test_experts_are_those_of_simulate(tmp_path):
    """Each with its own mask and its own tokens: 3 tokens, 3, 2 and 1 of them to experts 2, 0 and 3."""
    writer = ps.BundleWriter(tmp_path / "a", ps.BundleHeader("m", "own", "unstructured", model_config=CONFIG))
    for block, expert, name in itertools.product(range(2), range(4), SIDES):
        place = f"model.layers.{block}.block_sparse_moe.experts.{expert}.{name}"
        kept = np.random.default_rng(expert).random(SIDES[name]) < 0.2 * (expert + 1)
        layer = ps.Layer(place, ROLES[name], block, *SIDES[name])
        writer.add(layer, ps.PackedMask.from_dense(kept), "unstructured")
    masks, counts = writer.finish(), [2, 0, 3, 1]
    rows = ps.inference(
        masks, on="vitcod", batch=3, prompt=1, generate=1, operations=True, routing=counts
    ).frame  # fmt: skip
    layers = ps.simulate(masks, on="vitcod", phase="prefill", batch=3, prompt=1, routing=counts).frame
    between = 2 * (3 * 2) * 512 * 5 / (4096 / 32 * 500)
    found = rows.loc[rows["role"] == "experts", "latency_us"].sum()
    own = layers.loc[layers["role"].str.startswith("expert"), "latency_us"].sum()
    assert found == pytest.approx(own + between, rel=1e-3)  # rows have whole cycles
    other = ps.simulate(masks, on="vitcod", phase="prefill", batch=3, prompt=1, routing=[0, 2, 1, 3]).frame
    assert other.loc[other["role"].str.startswith("expert"), "latency_us"].sum() != pytest.approx(own, rel=0.05)


def test_a_gpu_reads_the_experts_that_are_hit(config):
    """Two of four experts: half of the weights of even counts, and the rows say whose they are."""
    kept = dict(on="a100-sxm", batch=64, prompt=8, generate=2, operations=True)
    rows = {
        name: ps.inference(config, routing=counts, **kept).frame.query("role == 'experts' and phase == 'decode'")
        for name, counts in {"two": [1, 1, 0, 0], "even": [1, 1, 1, 1]}.items()
    }
    two, even = rows["two"].iloc[0], rows["even"].iloc[0]
    assert two.weight_bytes == pytest.approx(even.weight_bytes / 2, rel=1e-9)
    assert two.latency_us < even.latency_us
    assert two.settings.startswith("routing=counts:")
    assert "of the counts those that are hit" in two.assumed


FILES = {
    "counts.json": "[4, 2, 1, 1]",
    "blocks.json": '{"0": [4, 2, 1, 1], "1": [4, 2, 1, 1]}',
    "counts.csv": "expert,tokens\n0,4\n1,2\n3,1\n2,1\n",
    "blocks.csv": "block,expert,tokens\n" + "".join(f"{b},{e},{t}\n" for b in "01" for e, t in enumerate((4, 2, 1, 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_way_to_say_it(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    assert routed(DECODER, parse_routing(name, tmp_path)) == routed(DECODER, parse_routing("4,2,1,1"))


BAD = {
    "too few": ("1,2", "2 counts for block 0, which has 4 experts"),
    "too many of one": ("9,1,1,1", "expert 0 has 9 of 12 visits, more than one a token with top 2 of 4"),
    "another block": ({7: [1, 1, 1, 1]}, "counts for block 7, which has no experts; blocks 0 to 1 have some"),
    "one block": ({0: [1, 1, 1, 1]}, "no counts for block 1; there are some for 0"),
    "sums": ({0: [1, 1, 1, 1], 1: [2, 2, 2, 2]}, "block 1 has 8 visits, block 0 4"),
    "no file": ("nope.csv", "no such file: nope.csv"),
    "words": ("1,two,3", "or numbers with commas"),
    "infinite": ("1,inf,1,1", "a list of numbers from 0"),
    "text": ([1, "2", 3, 4], "a list of numbers from 0"),
}
BAD_CSV = {
    "header": ("e,t\n0,1\n", "lacks the column 'expert'"),
    "twice": ("expert,tokens\n0,1\n0,2\n", "line 3: expert 0 has a line already"),
    "gap": ("expert,tokens\n0,1\n2,2\n", "no line for expert 1"),
    "cell": ("expert,tokens\n0,many\n", "line 2: tokens = 'many' is no number"),
    "number": ("expert,tokens\n-1,3\n", "line 2: expert = '-1' is no number of an expert"),
    "no lines": ("expert,tokens\n", "expected a list"),
}


@pytest.mark.parametrize("mistake", sorted(BAD))
def test_counts_that_cannot_be(mistake):
    given, message = BAD[mistake]
    with pytest.raises(UserError, match=message):
        routed(DECODER, given_routing(given))


@pytest.mark.parametrize("mistake", sorted(BAD_CSV))
def test_files_that_cannot_be(mistake, tmp_path):
    content, message = BAD_CSV[mistake]
    (tmp_path / "c.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        parse_routing("c.csv", tmp_path)


def test_a_study_reads_counts_beside_it(config, tmp_path):
    (tmp_path / "counts.csv").write_text(FILES["counts.csv"])
    (tmp_path / "s.toml").write_text(
        'title = "experts"\n[[models]]\nname = "m"\nshapes = "experts.json"\n[[methods]]\ntreat = ["int8"]\n'
        '[[phases]]\nprompt = 8\ngenerate = 2\n[[accelerators]]\nname = "a100-sxm"\nrouting = "counts.csv"\n'
    )
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out")])
    assert not stop.value.code
    rows = (tmp_path / "out" / "inference.csv").read_text()
    assert "routing=counts:" in rows
