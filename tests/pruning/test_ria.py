"""RIA: its score by hand, its channel order against every order, folded channels against the model they came from."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_weight
from pruning.evaluation.perplexity import perplexity
from pruning.methods.method import Evidence
from pruning.methods.ria import Ria
from pruning.permutation.couplings import couplings
from pruning.permutation.order import assigned, better_order, dealt, kept_score
from pruning.rules import keep_by_pattern
from pruning.run.base import Base
from pruning.run.driver import prune
from tests.pruning.block_jobs import INNER, make_job
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.errors import UserError
from workloads.patterns import NofM

TWO_OF_FOUR = NofM(2, 4)


def test_scores_by_hand():
    """Rows sum to 4 and 2, columns to 3 and 3; inputs of norm 1 and 4, whose square roots are 1 and 2."""
    weight = torch.tensor([[1.0, -3.0], [2.0, 0.0]])
    scores = Ria().score(weight, Evidence(1, torch.tensor([1.0, 4.0])))
    assert torch.allclose(scores, torch.tensor([[1 / 4 + 1 / 3, 2 * (3 / 4 + 1)], [1 + 2 / 3, 0.0]]))
    assert (Ria().score(torch.zeros(2, 2), Evidence(1)) == 0).all()


def test_scores_beside_a_slow_twin():
    draw = torch.Generator().manual_seed(0)
    weight, norm = torch.randn(5, 7, generator=draw), torch.rand(7, generator=draw) + 0.1
    found = Ria(a=0.8).score(weight, Evidence(1, norm))
    size = weight.abs().tolist()
    for r in range(5):
        for j in range(7):
            share = size[r][j] / sum(size[r]) + size[r][j] / sum(row[j] for row in size)
            assert float(found[r, j]) == pytest.approx(share * float(norm[j]) ** 0.8, rel=1e-5)


def test_other_rankings_are_those_scores():
    weight, evidence = torch.randn(3, 4), Evidence(1, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert torch.equal(Ria(ranking="wanda").score(weight, evidence), weight.abs() * evidence.feature_norm)
    assert torch.equal(Ria(ranking="magnitude").score(weight, evidence), weight.abs())


def test_dealing_by_hand():
    """Sums 0 .. 7 in two runs of four: the parts 0 1, 2 3, 4 5, 6 7, every second backwards."""
    scores = torch.arange(8.0).double()[None]
    assert dealt(scores, TWO_OF_FOUR).tolist() == [0, 3, 4, 7, 1, 2, 5, 6]


def kept(scores: torch.Tensor, order: list[int], pattern: NofM) -> float:
    """Plainly: the n largest of every run of every row."""
    total = 0.0
    for row in scores.tolist():
        moved = [row[j] for j in order]
        for start in range(0, len(moved), pattern.m):
            total += sum(sorted(moved[start : start + pattern.m])[-pattern.n :])
    return total


@given(st.integers(0, 1000), st.sampled_from([NofM(2, 4), NofM(1, 4), NofM(3, 4), NofM(1, 2), NofM(5, 8)]))
@settings(max_examples=40, deadline=None)
def test_an_assignment_is_the_best_of_all(seed, pattern):
    """Against every way to give three channels back; no step keeps less than the one before."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(4, 3 * pattern.m, generator=draw, dtype=torch.float64)
    order = torch.randperm(3 * pattern.m, generator=draw)
    for place in range(pattern.m):
        runs = order.reshape(3, pattern.m)
        tried = []
        for given_back in permutations(range(3)):
            other = runs.clone()
            other[:, place] = runs[list(given_back), place]
            tried.append(kept(scores, other.reshape(-1).tolist(), pattern))
        before, order = order, assigned(scores, order, pattern, place)
        assert sorted(order.tolist()) == list(range(3 * pattern.m))
        assert kept(scores, order.tolist(), pattern) == pytest.approx(max(tried), rel=1e-9)
        assert kept(scores, order.tolist(), pattern) >= kept(scores, before.tolist(), pattern) - 1e-9


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_an_order_keeps_no_less(seed):
    scores = torch.rand(6, 16, generator=torch.Generator().manual_seed(seed)) ** 4
    order = better_order(scores, TWO_OF_FOUR)
    assert sorted(order.tolist()) == list(range(16))
    assert kept_score(scores[:, order], TWO_OF_FOUR) >= kept_score(scores, TWO_OF_FOUR)
    assert kept_score(scores, TWO_OF_FOUR) == pytest.approx(kept(scores, list(range(16)), TWO_OF_FOUR), rel=1e-5)


def test_the_best_order_where_it_is_known():
    """Four inputs of one run matter and four do not: two in each run keep all."""
    scores = torch.tensor([[9.0, 8, 7, 6, 0, 0, 0, 0]])
    order = better_order(scores, TWO_OF_FOUR)
    assert kept_score(scores[:, order], TWO_OF_FOUR) == 30
    assert better_order(torch.ones(2, 8), TWO_OF_FOUR).tolist() == list(range(8))


def test_what_couples_in_a_block():
    job, _ = make_job()
    for linear in (job.block.self_attn.q_proj, job.block.self_attn.k_proj, job.block.self_attn.v_proj):
        linear.bias = None
    found, lacking = couplings(job)
    by_role = {made.output.layer.role: made for made in found}
    assert not lacking
    assert [ref.layer.role for ref, _ in by_role["down"].members] == ["gate", "up"]
    assert by_role["down"].columns.shape == (1, 1, INNER)


def test_a_bias_holds_rows_in_place():
    """The block's v has one."""
    job, _ = make_job()
    job.block.self_attn.num_heads = 1
    found, lacking = couplings(job)
    assert [made.output.layer.role for made in found] == ["down"]
    assert lacking == {"model.layers.0.self_attn.o_proj": "model.layers.0.self_attn.v_proj has a bias, which a bundle "
                       "of masks does not hold"}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


class KeepsAll(Ria):
    """Moves channels as RIA does, and prunes nothing."""

    def decide(self, job):
        job.keeper = lambda ref, scores: torch.ones_like(scores, dtype=torch.bool)
        return super().decide(job)


@pytest.mark.parametrize("family", ["llama", "mixtral", "phi3", "gemma2", "qwen2"])
def test_a_folded_model_gives_what_the_model_gives(tmp_path, family):
    """Grouped attention, experts, fused gate and up: logits with every weight kept, moved."""
    folder = save(family, tmp_path / "model")

    asked = recipe("ria", pattern="2:4", permute="fold")
    bundle = prune(Checkpoint(folder), replace(asked, method=KeepsAll(permute="fold")), tmp_path / "out", quiet, quiet)
    whole, moved = load_whole(folder), load_whole(folder)
    changed = []
    for entry in bundle.layers:
        held = read_weight(bundle, entry.name)
        if held is not None and "experts" not in entry.name:
            moved.get_parameter(f"{entry.name}.weight").data.copy_(held)
            changed.append(entry.layer.role)
    ids = token_ids(3, 12, seed=4)
    if family != "mixtral":
        assert {"down", "o"} <= set(changed) or family in ("phi3", "qwen2")
        assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), moved.parameters(), strict=True))
        with torch.no_grad():
            before, after = (model(input_ids=ids).logits for model in (whole, moved))
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)
    dense = perplexity(Checkpoint(folder), ids, None, quiet)
    assert perplexity(Checkpoint(folder), ids, bundle, quiet) == pytest.approx(dense, rel=1e-5)


@pytest.mark.parametrize("ranking", ["ria", "wanda", "magnitude"])
def test_folded_masks_are_plain_runs_and_keep_more(llama, tmp_path, ranking):
    """The first block's down: its kept scores in its new order, against those in its own."""
    folded = prune(Checkpoint(llama), recipe("ria", pattern="2:4", permute="fold", ranking=ranking), tmp_path / "fold",
                   quiet, quiet)  # fmt: skip
    for entry, mask in folded:
        assert (mask.to_dense().reshape(-1, 4).sum(axis=1) == 2).all()
        assert entry.pattern == "2:4"
    name = "model.layers.0.mlp.down_proj"
    held = read_weight(folded, name)
    own = load_whole(llama).get_parameter(f"{name}.weight")
    if ranking == "magnitude":
        plain = own.abs()[keep_by_pattern(own.abs(), TWO_OF_FOUR)].sum()
        assert float(held.abs().sum()) > float(plain)
    assert set(held[held != 0].tolist()) <= set(own.flatten().tolist())
    assert {record.facts["permuted"] for record in folded.records} == {"folded"}
    assert all(record.facts["kept_score_gain"] >= 0 for record in folded.records)


def test_gathered_masks_are_runs_in_another_order_and_say_so(llama, tmp_path):
    made = prune(Checkpoint(llama), recipe("ria", pattern="2:4", permute="gather"), tmp_path, quiet, quiet)
    plain = 0
    for entry, mask in made:
        dense = mask.to_dense()
        assert entry.pattern == "unstructured"
        assert dense.sum() * 2 == dense.size
        assert (dense.sum(axis=1) * 2 == dense.shape[1]).all()
        plain += int((dense.reshape(-1, 4).sum(axis=1) != 2).any())
    assert plain
    assert made.header.pattern == "unstructured"
    assert made.header.parameters["runs"] == "2:4"
    assert not made.changes_weights


def test_bits_come_in_a_second_run(llama, tmp_path):

    first = prune(Checkpoint(llama), recipe("ria", pattern="2:4", permute="fold"), tmp_path / "a", quiet, quiet)
    asked = replace(recipe("none", bits=8, quantizer="gptq"), base=Base(first))
    second = prune(Checkpoint(llama), asked, tmp_path / "b", quiet, quiet)
    for entry, mask in second:
        assert np.array_equal(mask.to_dense(), first[entry.name].to_dense())
    ids = token_ids(4, 12, seed=3)
    one, two = (perplexity(Checkpoint(llama), ids, bundle, quiet) for bundle in (first, second))
    assert one == pytest.approx(two, rel=0.02)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"permute": "fold"}, "channels move between runs of N:M; give a `pattern`"),
        ({"permute": "fold", "pattern": "2:4", "bits": 4}, "quantize in a second run"),
        ({"a": 3.0}, "ria: a = 3.0"),
        ({"permute": "all"}, "ria: permute = 'all'"),
    ],
)
def test_what_cannot_be_asked(asked, message):
    with pytest.raises(UserError, match=message):
        recipe("ria", 0.5, **asked)


def test_inputs_that_keep_their_order_are_named(llama, tmp_path):
    told: list[str] = []
    prune(Checkpoint(llama), recipe("ria", pattern="2:4", permute="fold"), tmp_path, quiet, told.append)
    assert any("these inputs keep their order: q, k, v, gate, up (no rows of this block make" in text for text in told)
