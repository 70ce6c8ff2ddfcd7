"""Inputs that windows share, fetched once: the bytes of the input itself, 1-D and 2-D; nothing moves by default."""

import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import prunesim as ps
from checkpoints.network_matrices import windows
from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import open_accelerator
from simulator.simulate import simulate_layers
from studies.cli.main import main
from tests.pruning.test_networks import network
from workloads.bundle import BundleHeader
from workloads.bundle_writer import BundleWriter
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations import linears_of
from workloads.uses import USES, Use

HEARS = [name for name, model in ACCELERATORS.items() if model.reuses_halo]


def share(layer: nn.Module, sample: torch.Tensor) -> float:
    """Distinct elements of one sample over those of its windows, element by element."""
    places = torch.arange(1, sample.numel() + 1, dtype=torch.float32).reshape(1, *sample.shape)
    rows = windows(layer, places)  # 0 where there is padding
    return len(set(rows[rows > 0].tolist())) / rows.numel()


def use_of(layer: nn.Module, sample: torch.Tensor) -> Use:
    (use,) = network(nn.Sequential(layer), torch.stack([sample, sample])).uses.values()
    return use


@pytest.mark.parametrize(
    ("layer", "side", "distinct", "all_windows"),
    [
        (nn.Conv1d(3, 4, 5), (20,), 3 * 20, 3 * 5 * 16),
        (nn.Conv1d(3, 4, 5, padding=2), (20,), 3 * 20, 3 * 5 * 20),
        (nn.Conv1d(3, 4, 5, stride=2), (20,), 3 * 19, 3 * 5 * 8),  # windows end at place 18
        (nn.Conv1d(3, 4, 3, stride=5), (20,), 3 * 3 * 4, 3 * 3 * 4),  # none overlap, two of five are never read
        (nn.Conv1d(3, 4, 3, dilation=4), (20,), 3 * 20, 3 * 3 * 12),
        (nn.Conv1d(3, 4, 2, stride=4, dilation=2), (20,), 3 * 10, 3 * 2 * 5),  # 0 2 4 6 .. 18
        (nn.Conv2d(2, 4, 3), (7, 9), 2 * 7 * 9, 2 * 9 * 5 * 7),
        (nn.Conv2d(2, 4, 3, padding=1), (7, 9), 2 * 7 * 9, 2 * 9 * 7 * 9),
        (nn.Conv2d(2, 4, (3, 2), stride=(2, 3)), (7, 9), 2 * 7 * 6, 2 * 6 * 3 * 3),
        (nn.Conv2d(2, 4, 2, dilation=(1, 3), padding=(0, 2)), (7, 9), 2 * 7 * 9, 2 * 4 * 6 * 10),
    ],
    ids=repr,
)
def test_the_share_of_distinct_inputs_by_hand(layer, side, distinct, all_windows):
    use = use_of(layer, torch.zeros(layer.in_channels, *side))
    assert use.distinct == pytest.approx(distinct / all_windows)


@given(
    *[st.tuples(st.integers(a, b), st.integers(a, b)) for a, b in ((4, 11), (1, 4), (1, 5), (1, 3), (0, 3))],
)
@settings(max_examples=60, deadline=None)
def test_the_share_is_that_of_single_elements(side, window, stride, dilation, padding):
    assume(all(n + 2 * p > d * (w - 1) for n, w, d, p in zip(side, window, dilation, padding, strict=True)))
    layer, sample = nn.Conv2d(2, 3, window, stride, padding, dilation), torch.zeros(2, *side)
    wanted = share(layer, sample)
    assume(wanted > 0)  # windows of padding alone
    assert use_of(layer, sample).distinct == pytest.approx(wanted)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """8 channels, 12 x 12 places, windows of 3 x 3 with padding; and a linear beside it."""
    use = Use(144, 1, "convolution 3x3 stride 1x1 by im2col, 12x12 positions", 8 * 144 / (144 * 72))
    uses = {"conv": use.plain(), "head": Use().plain()}
    header = BundleHeader("net", "own", "unstructured", model_config={USES: uses})
    writer = BundleWriter(tmp_path_factory.mktemp("halo") / "masks", header)
    for name, rows, cols in (("conv", 16, 72), ("head", 16, 64)):
        kept = torch.rand(rows, cols, generator=torch.Generator().manual_seed(0)) < 0.5
        writer.add(Layer(name, "other", 0, rows, cols), PackedMask.from_dense(kept.numpy()), "unstructured")
    return writer.finish()


def rows_of(masks, name: str, *settings: str, **conditions):
    design = open_accelerator(name, settings)
    return list(simulate_layers([design], masks.header, linears_of(masks), Conditions(2, **conditions)))


def rounded_up(row) -> int:
    """A byte at most for every tile of inputs and tokens, of 72 and 288; none where a row has no tiles."""
    tile = re.search(r"tile \d+x(\d+)x(\d+)", row["mapping"])
    return -(-72 // int(tile[1])) * -(-288 // int(tile[2])) if tile else 0


@pytest.mark.parametrize("name", [name for name in HEARS if not ACCELERATORS[name].reads_values])
def test_what_comes_in_is_the_input_itself(masks, name):
    """Two images of 8 x 12 x 12 values, which fit on chip; what leaves, and what a linear reads, is as before."""
    (conv, head), (reused, same) = rows_of(masks, name), rows_of(masks, name, halo_reuse=True)
    bits = open_accelerator(name, []).spec.number.activation_bits
    assert conv["activation_bytes"] == 2 * 144 * 72 * bits // 8
    assert 0 <= reused["activation_bytes"] - 2 * 8 * 144 * bits // 8 <= rounded_up(reused)
    assert reused["output_bytes"] == conv["output_bytes"]
    assert reused["cycles"] <= conv["cycles"]
    assert reused["dense_bytes"] < conv["dense_bytes"]
    assert ", 12x12 positions, shared inputs fetched once; " in reused["mapping"]
    assert {**same, "settings": ""} == head
    assert same["settings"] == "halo_reuse=true"


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_the_array_still_reads_every_window(masks, dataflow):
    """Buffers are filled with less, and read as often: what is saved is the DRAM's energy and the filling."""
    plain, reused = (rows_of(masks, "systolic", f"array.dataflow={dataflow}", halo_reuse=on)[0] for on in (False, True))
    assert 0 <= reused["activation_bytes"] - 2 * 8 * 144 <= rounded_up(reused)
    saved = plain["activation_bytes"] - reused["activation_bytes"]
    spec = open_accelerator("systolic", []).spec
    unit = spec.unit_energies(8)
    assert plain["dram_pj"] - reused["dram_pj"] == pytest.approx(8 * saved * unit.dram_pj)
    assert plain["buffer_pj"] - reused["buffer_pj"] == pytest.approx(8 * saved * unit.write_pj[2])
    assert plain["mac_pj"] == reused["mac_pj"]


def test_small_buffers_fetch_a_share_of_every_tile(masks):
    """Tiles of 16 tokens: 18 of them, each with the share of distinct inputs, rounded up."""
    settings = ("mapping.tile_tokens=16", "mapping.order=tokens-outer")
    (row, _) = rows_of(masks, "stc", *settings, halo_reuse=True)
    assert row["activation_bytes"] == 18 * 16 * 72 * 8 / 72


def test_who_cannot_says_so(masks):
    for on in ("vitcod-paper", "eie", "h100-sxm"):
        with pytest.raises(UserError, match="leave `halo_reuse` out"):
            ps.simulate(masks, on=on, halo_reuse=True)


def test_masks_without_windows_have_nothing_to_share(capsys):
    with pytest.raises(UserError, match="windows overlap"):
        ps.simulate(model="llama-7b", pattern="2:4", on="vitcod", halo_reuse=True)
    with pytest.raises(SystemExit) as stop:
        main(["simulate", "--model", "llama-7b", "--pattern", "2:4", "--on", "vitcod", "--halo-reuse"])
    assert stop.value.code == 2
    assert "--halo-reuse is of convolutions whose windows overlap" in capsys.readouterr().err
