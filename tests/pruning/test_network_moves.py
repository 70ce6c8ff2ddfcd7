"""What a network gathers and scatters: found in its graph, counted in closed form, timed by bandwidth."""

from contextlib import suppress

import pytest
import torch
from torch import nn

import prunesim as ps
from pruning.config import CalibrationConfig, PruneConfig
from pruning.run.driver import prune
from simulator.runners import find_runner
from studies.cli.main import main
from studies.prune import open_model, recipe_for
from tests.pruning.nets import GRAPH
from tests.pruning.test_networks import network
from validation.conformance.tiny_models import quiet
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.layers import BESIDE
from workloads.operations.moves import KINDS, Gather, Scatter, moves_of
from workloads.phases import prefill

NODES, EDGES, WIDTH = 5, 7, 6


class Picks(nn.Module):
    """Indices of each sample's own, and an index for each value."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(3, 2)
        self.register_buffer("order", torch.tensor([2, 0, 5]))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        made = self.first(values)
        best = made.argsort(dim=1)[:, :3]
        return self.last(made.gather(1, best) + self.order.index_select(0, torch.tensor([0, 1, 2])))


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> MaskBundle:
    folder = tmp_path_factory.mktemp("graph")
    (folder / "small.py").write_text(GRAPH)
    model = f"{folder / 'small.py'}:Small"
    opened = open_model(model, "float32")
    recipe = recipe_for(model, opened, PruneConfig("magnitude", 0.5), CalibrationConfig())
    return prune(opened, recipe, folder / "masks", quiet, quiet)


def test_a_graphs_moves_are_in_its_bundle(masks):
    found = moves_of(masks.header.model_config)
    assert [(type(move), move.name) for move in found] == [
        (Gather, "kinds.gather1"), (Gather, "gather1"), (Gather, "gather2"), (Scatter, "scatter1"),
    ]  # fmt: skip
    looked_up, start, end, summed = found
    assert (looked_up.rows, looked_up.width, looked_up.indices, looked_up.shared) == (NODES, WIDTH, NODES, False)
    for move in (start, end, summed):
        assert (move.rows, move.width, move.indices, move.shared) == (EDGES, WIDTH, EDGES, True)
    assert summed.sums == NODES


def test_indices_of_samples_and_of_values():
    """What depends on no sample, the order's own entries, moves once and is none of them."""
    (found,) = network(Picks().eval(), torch.randn(4, 4)).moves
    assert (found.rows, found.width, found.indices, found.shared) == (3, 1, 3, False)


@pytest.mark.parametrize("samples", [1, 16])
def test_bytes_and_times_in_closed_form(masks, samples):
    """8-bit values and 32-bit indices; a row is what an edge names, whoever named it before."""
    runner = find_runner("stc")
    numbers, phase = runner.numbers(), prefill(samples, 1)
    assert numbers.elements.activation_bits == 8
    looked_up, start, _, summed = moves_of(masks.header.model_config)
    wanted = {
        looked_up: (0, samples * (2 * NODES * WIDTH + 4 * NODES)),
        start: (4 * EDGES, samples * 2 * EDGES * WIDTH),
        summed: (4 * EDGES, samples * WIDTH * (EDGES + 2 * NODES)),
    }
    for move, (weight, act) in wanted.items():
        counts = move.counts(phase, numbers.elements)
        assert (counts.bytes_weight, counts.bytes_act) == (weight, act)
        flop = samples * EDGES * WIDTH if isinstance(move, Scatter) else 0
        assert counts.flop == flop
        vector = flop / runner.spec.vector_per_us
        memory = (weight + act) / (runner.spec.dram.bandwidth_gbps * runner.spec.dram.efficiency * 1e3)
        assert runner.time_of(move, [phase], numbers).us == pytest.approx(max(memory, vector))


@pytest.mark.parametrize("on", ["systolic", "h100-sxm"])
def test_rows_stand_behind_the_layers(masks, on):
    frame = ps.simulate(masks, on=on, tokens=16, include="moves").frame
    layers = frame[~frame["role"].isin(["gather", "scatter"])]
    assert layers.equals(ps.simulate(masks, on=on, tokens=16).frame)
    moves = frame[frame["role"].isin(["gather", "scatter"])]
    assert moves["layer"].tolist() == ["kinds.gather1", "gather1", "gather2", "scatter1"]
    assert (moves["latency_us"] > 0).all()
    assert (moves["speedup"] == 1).all()
    assert moves["tokens"].unique().tolist() == [16]


def test_reports_know_moves_as_no_layers():
    assert set(KINDS) < set(BESIDE)


def test_what_changes_the_layers_settings_is_said_of_moves_too(masks):
    """So that they stand in the same sums."""
    frame = ps.simulate(masks, on="stc", tokens=2, include="moves", activation_density=0.5).frame
    assert frame["activation_density"].unique().tolist() == [0.5]
    assert len(ps.simulate(masks, on="stc", tokens=2, include="moves", activation_density=0.5).totals) == 1


def test_on_a_gpu_more_samples_take_longer(masks):
    few, many = (ps.simulate(masks, on="h100-sxm", tokens=n, include="moves").frame for n in (1, 65536))
    assert (many["latency_us"].tail(4).to_numpy() > few["latency_us"].tail(4).to_numpy()).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--phase", "decode", "--include", "moves"], "--include moves is of networks, which have no phases"),
        (["--include", "moves,head"], "--include needs a --phase"),
        (["--on", "vitcod-paper", "--include", "moves"], "vitcod-paper is of level 'paper'"),
    ],
)
def test_what_does_not_go_together_is_told(masks, arguments, message, capsys):
    with suppress(SystemExit):
        main(["simulate", str(masks.folder), *([] if "--on" in arguments else ["--on", "stc"]), *arguments])
    assert message in capsys.readouterr().err


def test_of_a_model_without_any_is_told():
    with pytest.raises(UserError, match="come without a gather or scatter"):
        ps.simulate(model="llama-7b", on="stc", include="moves")


def test_a_damaged_header_is_told():
    with pytest.raises(UserError, match=r"moves cannot be read: .*; make the bundle again"):
        moves_of({"moves": [{"kind": "gather", "name": "a", "block": 0, "rows": 0, "width": 1, "indices": 1,
                             "shared": True}]})  # fmt: skip
    with pytest.raises(UserError, match="moves cannot be read"):
        moves_of({"moves": [{"kind": "shuffle"}]})
