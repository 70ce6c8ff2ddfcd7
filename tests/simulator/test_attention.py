"""`vitcod-attention` against its functional twin, closed forms and laws; masks from files; rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.accelerators.vitcod.attention.cycle import dense_layer, simulate
from simulator.accelerators.vitcod.attention.mapper import AttentionCycles, best_schedule, mappings, run
from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.accelerators.vitcod.attention.positions import Positions
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec
from simulator.accelerators.vitcod.attention.target import model_rows, open_attention
from simulator.cycles import Infeasible
from simulator.machine.spec import load_spec
from simulator.simulate import rows_on
from simulator.statistics import StatisticsStore
from simulator.targets import find_target
from simulator.tiling.search import NEAR
from validation.twins.attention import Machine, parse_mapping
from workloads.columns.layers import LAYER_COLUMNS
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.rows import to_frame, to_records

SMALL = (
    "array.width=5", "array.height=3", "attention.head_features=7", "attention.global_above=9",
    "engines.softmax_per_cycle=4",
    "dram.bandwidth_gbps=2.5", "number.accumulator_bits=20", "buffers.query_kib=0.5", "buffers.key_kib=0.5",
    "buffers.value_kib=0.5", "buffers.index_kib=2", "buffers.output_kib=4",
)  # fmt: skip


def spec_of(*sets: str) -> VitcodAttentionSpec:
    return load_spec("vitcod-attention", VitcodAttentionSpec, sets)


def some_masks(seed: int, heads: int, tokens: int, density: float) -> np.ndarray:
    """A fifth of the keys, different in every head, kept at 80 %; one of them whole."""
    rng = np.random.default_rng(seed)
    columns = np.where(rng.random((heads, 1, tokens)) < 0.2, 0.8, density)
    kept = rng.random((heads, tokens, tokens)) < columns
    kept[0, :, tokens // 2] = True
    return kept


def run_twin(spec: VitcodAttentionSpec, kept: np.ndarray, mapping: str, seed: int = 0):
    """(twin result, exact scores on kept positions, exact outputs) with random integers."""
    heads, tokens, _ = kept.shape
    d, left = spec.attention.head_features, spec.left_heads(heads)
    rng = np.random.default_rng(seed)
    values = rng.integers(-9, 9, (tokens, heads, d))
    queries, keys = rng.integers(-9, 9, (2, tokens, left or heads, d))
    decoders = rng.integers(-4, 4, (2, heads, left)) if left else None
    full_q = np.einsum("hc,tcd->thd", decoders[0], queries) if left else queries
    full_k = np.einsum("hc,tcd->thd", decoders[1], keys) if left else keys
    scores = np.einsum("qhd,khd->hqk", full_q, full_k) * kept
    outputs = np.einsum("hqk,khd->hqd", scores, values)
    machine = Machine(spec, kept, queries, keys, values, list(decoders) if left else None, parse_mapping(mapping))
    return machine.run(), scores, outputs


def check_against_twin(spec: VitcodAttentionSpec, kept: np.ndarray, found: AttentionCycles) -> None:
    twin, scores, outputs = run_twin(spec, kept, found.mapping)
    np.testing.assert_array_equal(twin.scores, scores)
    np.testing.assert_array_equal(twin.outputs, outputs)
    np.testing.assert_array_equal(twin.score_uses, kept)
    np.testing.assert_array_equal(twin.output_uses, np.broadcast_to(kept[..., None], twin.output_uses.shape))
    parts = (found.sddmm_cycles, found.spmm_cycles, found.decoder_cycles, found.softmax_cycles, found.cycles)
    assert parts == (twin.sddmm, twin.spmm, twin.decoder, twin.softmax, twin.cycles)
    moved = (found.query_bytes, found.key_bytes, found.value_bytes, found.metadata_bytes, found.output_bytes)
    assert moved == tuple(twin.bytes.values())
    assert twin.largest_output <= spec.buffers.output_kib * 1024
    assert twin.largest_index <= spec.buffers.index_kib * 1024


@pytest.mark.parametrize("order", ["queries", "keys"])
@pytest.mark.parametrize("ratio", [1.0, 0.67])
@pytest.mark.parametrize("metadata", ["coordinate", "bitmap"])
@pytest.mark.parametrize(("heads", "tokens", "density"), [(1, 40, 0.1), (2, 33, 0.3), (3, 17, 0.05)])
def test_agrees_with_the_functional_twin_to_the_cycle(heads, tokens, density, metadata, ratio, order):
    sets = (f"engines.metadata={metadata}", f"attention.encoder_ratio={ratio}", f"engines.stationary={order}")
    spec = spec_of(*SMALL, "buffers.query_kib=0.8", "buffers.key_kib=0.7", "buffers.value_kib=0.7", *sets)
    kept = some_masks(heads * tokens, heads, tokens, density)
    check_against_twin(spec, kept, simulate(spec, kept))


@pytest.mark.parametrize(
    ("heads", "tokens", "ratio", "kib"), [(2, 40, 1.0, 0.5), (2, 40, 0.5, 0.5), (1, 70, 1.0, 0.45), (2, 33, 1.0, 0.3)]
)
def test_every_mapping_agrees_with_the_twin_and_none_is_better(heads, tokens, ratio, kib):
    """All that fits, not only the one taken: both orders, reloads of Q, K and V, head by head and together."""
    buffers = ["buffers.output_kib=8", *(f"buffers.{name}_kib={kib}" for name in ("query", "key", "value"))]
    spec = spec_of(*SMALL, *buffers, f"attention.encoder_ratio={ratio}")
    kept = some_masks(5, heads, tokens, 0.15)
    work = Positions.of(kept, spec.attention.global_above, spec.array.width)
    candidates = list(mappings(spec, work))
    walked = {candidate: run(spec, work, candidate) for candidate in candidates}
    assert {candidate.order for candidate in candidates} == {"queries", "keys"}
    for candidate, found in walked.items():
        assert found.cycles >= candidate.lower_bound
        check_against_twin(spec, kept, found)
        assert found.total_bytes == candidate.moved_bytes
    fewest = min(found.cycles for found in walked.values())
    near = [found.total_bytes for found in walked.values() if found.cycles <= fewest * (1 + NEAR)]
    best = best_schedule(spec, work)
    assert best.cycles <= fewest * (1 + NEAR)
    assert best.total_bytes == min(near)
    assert len({found.query_bytes for found in walked.values()}) > 1  # Q is loaded again in some


@pytest.mark.parametrize(
    "kept", [np.ones((2, 20, 20), bool), np.eye(20, dtype=bool)[None].repeat(2, axis=0)], ids=["all", "eye"]
)
def test_one_kind_of_work_agrees_with_the_twin(kept):
    spec = spec_of(*SMALL, "attention.encoder_ratio=1.0")
    check_against_twin(spec, kept, simulate(spec, kept))


def test_a_single_lane_is_never_two_engines():
    spec = spec_of(*SMALL, "array.width=1", "attention.encoder_ratio=1.0")
    kept = some_masks(3, 2, 20, 0.2)
    found = simulate(spec, kept)
    chunks = math.ceil(7 / 3)
    assert found.sddmm_cycles == found.spmm_cycles == kept.sum() * chunks


def test_nothing_pruned_is_a_closed_form():
    """64 tokens, 64 features, 2 heads, no encoder, everything in one tile a head: T T d / MACs cycles each way."""
    spec = spec_of("attention.encoder_ratio=1.0", "buffers.output_kib=1000", "dram.bandwidth_gbps=1e9")
    dense = dense_layer(spec, 2, 64)
    assert (dense.sddmm_cycles, dense.spmm_cycles) == (2 * 64 * 64 * 64 // 512, 2 * 64 * 64 * 64 // 512)
    assert dense.softmax_cycles == 2 * 64 * 64 // 64
    assert dense.ideal_cycles == dense.sddmm_cycles + dense.spmm_cycles
    assert (dense.decoder_cycles, dense.metadata_bytes) == (0, 0)
    assert dense.total_bytes == 4 * 2 * 64 * 64  # Q, K, V and outputs
    kept = np.ones((2, 64, 64), dtype=bool)
    assert simulate(spec, kept) == dense


def test_a_memory_bound_layer_takes_its_bytes():
    spec = spec_of("dram.bandwidth_gbps=0.01")
    found = simulate(spec, some_masks(1, 3, 64, 0.1))
    assert found.transfer_cycles <= found.cycles < found.transfer_cycles * 1.02
    assert found.transfer_cycles == pytest.approx(found.total_bytes / 0.02, rel=0.01)


def test_the_slowest_lane_counts():
    """8 kept positions: of one key they wait for one lane in SDDMM; of eight keys they take eight lanes."""
    one, eight = np.zeros((2, 1, 64, 64), dtype=bool)
    one[0, :8, 0] = True
    eight[0, np.arange(8), np.arange(8)] = True
    spec = spec_of("attention.encoder_ratio=1.0", "buffers.output_kib=1000")
    assert simulate(spec, one).sddmm_cycles == 8 * simulate(spec, eight).sddmm_cycles == 8 * 8
    assert simulate(spec, one).spmm_cycles == 1  # 8 queries x 8 chunks: one for each of 64 lanes


@pytest.mark.parametrize(("seed", "features", "height"), [(0, 64, 8), (1, 64, 64), (2, 30, 4)])
def test_lane_maxima_of_random_masks_match_the_binomial(seed, features, height):
    """Every lane owns one key, 64 queries a tile: the fullest of 64 Binomial(64, p), f cycles a position."""
    density, heads = 0.1, 400
    kept = np.random.default_rng(seed).random((heads, 64, 64)) < density
    work = Positions.of(kept, 64, 64)
    chunks = math.ceil(features / height)
    pmf = [math.comb(64, k) * density**k * (1 - density) ** (64 - k) for k in range(65)]
    expected = sum(1 - min(1.0, sum(pmf[: k + 1])) ** 64 for k in range(64)) * chunks
    assert work.sddmm_cycles(64, 64, chunks).mean() == pytest.approx(expected, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 40),
    st.floats(0.02, 1),
    st.sampled_from([0.5, 1.0]),
)
def test_parts_sum_and_more_bandwidth_or_buffer_costs_at_most_a_64th(seed, heads, tokens, density, ratio):
    spec = (
        *SMALL,
        f"attention.encoder_ratio={ratio}",
        "buffers.output_kib=6",
        "buffers.query_kib=1",
        "buffers.key_kib=1",
        "buffers.value_kib=1",
    )
    kept = some_masks(seed, heads, tokens, density)
    found = simulate(spec_of(*spec), kept)
    assert found.cycles == found.compute_cycles + found.stall_cycles
    assert found.stall_cycles >= 0
    assert found.ideal_cycles == 2 * kept.sum() * 7 / 15
    assert found.sddmm_cycles + found.spmm_cycles >= found.ideal_cycles
    assert found.cycles >= found.transfer_cycles >= found.total_bytes / 5 - 1e-9
    assert found.output_bytes == heads * tokens * 7
    better = ["dram.bandwidth_gbps=5", "engines.softmax_per_cycle=9"]
    better += [f"buffers.{name}_kib=9" for name in ("query", "key", "value", "index", "output")]
    for change in better:
        assert simulate(spec_of(*spec, change), kept).cycles <= found.cycles * (1 + NEAR)


def test_pruning_a_sparser_engines_position_never_adds_compute():
    """Same global keys and lanes, the same single mapping: each kept position that goes can only shorten a lane."""
    spec = spec_of("attention.encoder_ratio=1.0", "attention.global_above=64", "buffers.output_kib=1000")
    kept = some_masks(2, 2, 16, 0.5)
    fewer = kept & (np.random.default_rng(3).random(kept.shape) < 0.6)
    assert simulate(spec, fewer).compute_cycles <= simulate(spec, kept).compute_cycles


def boundary(buffer: str, need_bytes: float) -> None:
    kept = some_masks(7, 2, 16, 0.2)
    sets = (*SMALL, "engines.stationary=queries", "attention.encoder_ratio=0.5")
    assert simulate(spec_of(*sets, f"buffers.{buffer}={need_bytes / 1024}"), kept).cycles > 0
    with pytest.raises(Infeasible) as refused:
        simulate(spec_of(*sets, f"buffers.{buffer}={(need_bytes - 1) / 1024}"), kept)
    refusal = refused.value.refusal
    assert (refusal.resource, refusal.need, refusal.bound) == (f"buffers.{buffer}", need_bytes, need_bytes - 1)


@pytest.mark.parametrize("buffer", ["query_kib", "key_kib", "value_kib"])
def test_tokens_fit_exactly_or_not(buffer):
    boundary(buffer, 16 * 2 * 7)  # 16 tokens, 2 heads, 7 features of 8 bits, all of them at once


def test_scores_and_outputs_fit_exactly_or_not():
    kept = some_masks(7, 2, 16, 0.2)
    is_global = kept.sum(axis=1) > 9
    scores = int(is_global.sum()) * 16 + int((kept & ~is_global[:, None, :]).sum())
    boundary("output_kib", math.ceil((scores * 8 + 16 * 2 * 7 * 20) / 8))


def test_metadata_fits_exactly_or_not():
    kept = some_masks(7, 2, 16, 0.2)
    bits = 0
    for (
        head
    ) in kept:  # 4-bit key numbers, 5-bit counts, one bit a position of global keys with holes, one a key to tell apart
        is_global = head.sum(axis=0) > 9
        holes = is_global & ~head.all(axis=0)
        bits += int(head[:, ~is_global].sum()) * 4 + 16 * 5 + 16 * int(holes.sum()) + 16
    boundary("index_kib", math.ceil(bits / 8))


def test_head_by_head_fits_where_all_heads_do_not():
    """The encoder mixes heads, so they come together; without it one head's tokens suffice."""
    kept = some_masks(1, 4, 32, 0.1)
    with pytest.raises(Infeasible, match=r"encoder_ratio=1\.0 to load head by head"):
        simulate(spec_of(*SMALL, "attention.encoder_ratio=0.5", "buffers.key_kib=0.4"), kept)
    found = simulate(spec_of(*SMALL, "attention.encoder_ratio=1.0", "buffers.key_kib=0.4"), kept)
    assert parse_mapping(found.mapping).group == 1


# Rows.


def test_rows_fill_the_documented_columns():
    kept = some_masks(4, 3, 60, 0.1)
    for name, model in ATTENTION_MODELS.items():
        target = open_attention(name)
        rows = model_rows(target, AttentionMasks.of(np.stack([kept, kept]), "m"))
        records = to_records(to_frame(rows, extra=target.columns))
        assert [row["layer"] for row in records] == ["attention.0", "attention.1", "total"]
        first, second, total = records
        assert {**first, "layer": "attention.1", "block": 1} == second
        assert (first["role"], first["tokens"], first["heads"]) == ("attention", 60, 3)
        assert first["sparsity"] == pytest.approx(1 - first["nnz"] / (first["out_features"] * first["in_features"]))
        assert first["level"] == model.level
        assert first["speedup"] == first["dense_cycles"] / first["cycles"]
        assert total["nnz"] == 2 * kept.sum()
        assert total["dense_cycles"] == 2 * first["dense_cycles"]
        if model.level == "cycle":
            assert total["cycles"] == 2 * first["cycles"]
            assert first["paper_ratio"] == first["cycles"] / first["paper_cycles"]
            assert total["paper_cycles"] == 2 * first["paper_cycles"]
            engines = first["sddmm_cycles"] + first["spmm_cycles"]
            assert first["engine_imbalance_cycles"] == engines - first["ideal_cycles"]
            rest = first["decoder_cycles"] + first["softmax_cycles"]
            assert first["imbalance_cycles"] == first["engine_imbalance_cycles"] + rest
            parts = [first[name] for name in ("ideal_cycles", "imbalance_cycles", "stall_cycles")]
            assert sum(parts) == pytest.approx(first["cycles"])
            assert first["activation_bytes"] == first["query_bytes"] + first["key_bytes"] + first["value_bytes"]
        own = [column.name for column in (*LAYER_COLUMNS, *target.columns)]
        assert len(set(own)) == len(own)
        assert all(column.meaning for column in target.columns)


def test_heads_that_state_their_features_and_tiles_of_a_layer():
    """The trace ends when the layer does."""
    masks = AttentionMasks.of(some_masks(3, 2, 40, 0.2), "m")
    (operation,) = masks.operations()
    target, store = open_attention("vitcod-attention"), StatisticsStore()
    (row,) = target.rows(masks.header, replace(operation, head_features=32), Conditions(1), store)
    other = open_attention("vitcod-attention", ["attention.head_features=32"])
    (same,) = other.rows(masks.header, operation, Conditions(1), store)
    assert row["head_features"] == 32
    assert {**row, "settings": "", "spec_sha256": ""} == {**same, "settings": "", "spec_sha256": ""}
    line = other.timeline(masks.header, operation, Conditions(1), store)
    assert line.end == row["cycles"]


def test_attention_on_a_machine_of_linears():
    masks = AttentionMasks.of(some_masks(3, 2, 40, 0.2), "m")
    (operation,) = masks.operations()
    refusal = find_target("vitcod").supports(operation)
    assert str(refusal) == (
        "attention.0 needs a target of attention; vitcod runs linear; `prunesim ls accelerators` says what each of "
        "them runs"
    )
    assert find_target("vitcod-attention").supports(operation) is None
    assert list(rows_on([find_target("vitcod")], masks.header, [operation], Conditions(1))) == []


def test_a_dense_layer_that_does_not_fit_leaves_its_columns_empty():
    """Keys outer: all scores wait on chip, which they do only when pruned."""
    kept = some_masks(1, 1, 64, 0.02)
    sets = [
        "engines.stationary=keys",
        "attention.head_features=2",
        "buffers.output_kib=2",
        "attention.encoder_ratio=1.0",
    ]
    row, total = model_rows(open_attention("vitcod-attention", sets), AttentionMasks.of(kept, "m"))
    for each in (row, total):
        assert each["feasible"]
        assert each["reason"].startswith("without pruning it does not fit: ")
        assert "engines.stationary=queries" in each["reason"]
        assert each.get("dense_cycles") is None
        assert each["cycles"] > 0


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'vitcod-attention"):
        open_attention("vitcod-atention")


@pytest.mark.parametrize("target", ["vitcod-attention", "vitcod-attention-paper"])
def test_the_published_threshold_grows_with_the_tokens(target):
    """50 kept of 197, rounded up: 98 of 384. One head of a causal window of 64 keeps at most 64 of a column, so no key
    is global."""
    distance = np.subtract.outer(np.arange(384), np.arange(384))
    kept = ((distance >= 0) & (distance < 64))[None]
    default, scaled, literal = (
        model_rows(open_attention(target, sets), AttentionMasks.of(kept))[0]
        for sets in ([], ["attention.global_above=98"], ["attention.global_above=50"])
    )
    assert default["cycles"] == scaled["cycles"]
    assert (default["global_keys"], literal["global_keys"]) == (0, 384 - 50)
    if target == "vitcod-attention":
        # counted apart from this program; the mapper may spend 1/64 more for fewer bytes
        assert [literal["cycles"], default["cycles"]] == pytest.approx([45_044, 6_547], rel=1 / 64)
        assert default["speedup"] == pytest.approx(6.0, rel=1 / 64)
    for tokens, above in ((1, 1), (197, 50), (394, 100), (384, 98)):
        assert load_spec(target, ATTENTION_MODELS[target].spec_type, []).attention.kept_above(tokens) == above
