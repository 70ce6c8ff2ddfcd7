"""`vitcod-attention-paper`: the published log line by line, and a literal twin on small masks."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.accelerators.vitcod.attention.paper import PaperLayer, PaperSpec, dense_layer, model_cycles, simulate
from simulator.accelerators.vitcod.attention.target import model_rows, open_attention
from simulator.cycles import Infeasible
from simulator.machine.spec import load_spec
from validation.sources import vitcod_log
from validation.twins.attention import published_log

DEIT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "vitcod" / "deit_tiny_0.95"
needs_deit = pytest.mark.skipif(not DEIT.is_dir(), reason="ViTCoD's masks and log are not in ../shared/data/vitcod")


def paper_spec(*sets: str) -> PaperSpec:
    return load_spec("vitcod-attention-paper", PaperSpec, sets)


def log_lines(layer: PaperLayer) -> list[int]:
    """In the order of the log."""
    return [
        layer.dense_preload, layer.dense_decoder, layer.sparse_preload, layer.sparse_decoder, layer.dense_sddmm,
        layer.sparse_sddmm, layer.dense_value, layer.dense_spmm, layer.sparse_value, layer.sparse_spmm,
    ]  # fmt: skip


@needs_deit
def test_every_line_of_the_published_log():
    """The last complete run; read here on its own, not by the benchmark's parser."""
    text = (DEIT / "vitcod_atten_0.95_wo.txt").read_text().split("Shape:")[-1]
    published = [int(float(value)) for value in re.findall(r"\| cycles: ([\d.]+)", text)]
    keys = [int(value) for value in re.findall(r"global tokens: (\d+)", text)]
    assert (len(published), len(keys)) == (120, 12)
    layers = [simulate(paper_spec(), kept) for kept in AttentionMasks.open(DEIT / "info_0.95.npy", pruned_is_one=True)]
    assert [layer.global_keys for layer in layers] == keys
    assert [line for layer in layers for line in log_lines(layer)] == published
    totals = [int(value) for value in re.findall(r"(?:preloading|processing|Computation|Total) cycles: (\d+)", text)]
    found = [sum(layer.preload for layer in layers), sum(layer.decoder for layer in layers)]
    found += [sum(layer.sddmm + layer.spmm for layer in layers), model_cycles(layers)]
    assert found == totals == [9492, 4728, 4709, 9492]


@needs_deit
def test_the_rows_and_the_benchmark_say_the_same():
    rows = vitcod_log.rows(DEIT)
    assert len(rows) == 12 * 11 + 4
    assert all(row["difference"] == 0 for row in rows)
    masks = AttentionMasks.open(DEIT / "info_0.95.npy", pruned_is_one=True)
    *layers, total = model_rows(open_attention("vitcod-attention-paper"), masks)
    assert [row["layer"] for row in layers] == [f"attention.{i}" for i in range(12)]
    assert (total["cycles"], total["transfer_cycles"], total["decoder_cycles"]) == (9492, 9492, 4728)
    assert total["sddmm_cycles"] + total["spmm_cycles"] == 4709
    assert total["stall_cycles"] == 9492 - 4728 - 4709


def some_masks(seed: int, heads: int, tokens: int, density: float, heavy: float = 0.2) -> np.ndarray:
    """A share `heavy` of each head's keys kept at 80 %."""
    rng = np.random.default_rng(seed)
    columns = np.where(rng.random((heads, 1, tokens)) < heavy, 0.8, density)
    return rng.random((heads, tokens, tokens)) < columns


def agrees(spec: PaperSpec, kept: np.ndarray) -> None:
    try:
        expected = published_log(spec, kept)
    except ZeroDivisionError:
        with pytest.raises(Infeasible, match=r"raise array\.width"):
            simulate(spec, kept)
        return
    found = simulate(spec, kept)
    assert log_lines(found) == expected
    assert found.cycles == max(found.preload, found.decoder + found.sddmm + found.spmm)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6), heads=st.integers(1, 5), tokens=st.integers(1, 30), density=st.floats(0, 1),
    heavy=st.sampled_from([0.0, 0.2, 1.0]), above=st.integers(1, 20), width=st.integers(1, 20), features=st.integers(1,
        40),
    ratio=st.sampled_from([0.25, 2 / 3, 1.0]), bandwidth=st.sampled_from([0.05, 1.0, 76.8]),
)  # fmt: skip
def test_small_masks_equal_the_literal_twin(
    seed, heads, tokens, density, heavy, above, width, features, ratio, bandwidth
):
    spec = paper_spec(
        f"array.width={width}", f"attention.global_above={above}", f"attention.head_features={features}",
        f"attention.encoder_ratio={ratio}", f"dram.bandwidth_gibps={bandwidth}",
    )  # fmt: skip
    agrees(spec, some_masks(seed, heads, tokens, density, heavy))


@pytest.mark.parametrize("tokens", [199, 200, 201, 220])
def test_the_walks_scratch_label_is_a_real_one_in_larger_masks(tokens):
    kept = some_masks(tokens, 1, tokens, 0.02, heavy=0.03)
    kept[0, :, [0, tokens - 1]] = True
    agrees(paper_spec(), kept)


def test_without_a_global_key_queries_come_with_the_sparser_engine():
    """T = 4, 2 kept, one head, one value a cycle: 4 keys, and Q weighted 2 / 4 four times, one decoder load each."""
    kept = np.zeros((1, 4, 4), dtype=bool)
    kept[0, 0, 1] = kept[0, 2, 3] = True
    spec = paper_spec("attention.head_features=1", "attention.encoder_ratio=1.0")
    assert simulate(spec, kept).sparse_preload == 4 + 1 + 2 + 1
    assert simulate(spec, kept).sparse_decoder == 4 + 2
    assert simulate(spec, kept).dense_preload == 0


@pytest.mark.parametrize(("heads", "tokens"), [(3, 197), (1, 5), (12, 64)])
def test_nothing_pruned_is_a_closed_form(heads, tokens):
    """Every key global, whatever the threshold, all 64 columns in the denser engine."""
    dense = dense_layer(paper_spec(), heads, tokens)
    assert dense.dense_sddmm == tokens * math.ceil(tokens / 64) * math.ceil(64 * heads / 64)
    assert dense.dense_spmm == math.ceil(tokens * 64 * tokens / int(64 * 64 / heads))
    assert (dense.sparse_preload, dense.sparse_sddmm, dense.sparse_spmm, dense.sparse_value) == (0, 0, 0, 0)
    if tokens > 50:
        kept = np.ones((heads, tokens, tokens), dtype=bool)
        assert dataclasses.astuple(simulate(paper_spec(), kept)) == dataclasses.astuple(dense)


def test_only_the_first_head_counts():
    kept = some_masks(1, 3, 60, 0.1)
    other = kept.copy()
    other[1:] = ~other[1:]
    assert simulate(paper_spec(), kept) == simulate(paper_spec(), other)


def test_a_layer_that_the_formula_cannot_answer_is_a_row_with_its_reason():
    """One global key beside many kept positions: its share of the PE columns rounds down to none."""
    kept = np.zeros((2, 1, 80, 80), dtype=bool)
    kept[:, 0, :, 0] = True
    kept[1, 0, :50, 1:] = True
    first, second, total = model_rows(
        open_attention("vitcod-attention-paper", ["array.width=16", "attention.global_above=50"]),
        AttentionMasks.of(kept, "m"),
    )
    assert first["feasible"]
    assert not second["feasible"]
    assert second["reason"].startswith("the denser engine needs 1 PE")
    assert "cycles" not in second
    assert (total["feasible"], total["reason"]) == (False, "cannot run layer attention.1")
