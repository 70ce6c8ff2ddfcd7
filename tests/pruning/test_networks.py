"""Networks that are no language models: cut into units, their matrices, and runs on a family of a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import prunesim
from checkpoints.decoders import decoder_of
from checkpoints.network import Network
from checkpoints.network_channels import ChannelMap
from checkpoints.network_matrices import matrices
from checkpoints.network_units import units_of
from checkpoints.recurrent import with_linears
from pruning.applied import apply_bundle
from pruning.config import CalibrationConfig, EvaluationConfig, PruneConfig
from pruning.families import TRANSFORMERS, family_of, find_family
from pruning.forward.network_walk import packed, unpacked
from pruning.run import calibrated
from pruning.run.driver import prune
from studies.prune import open_checkpoint, open_model, recipe_for, run_prune
from studies.simulate import bundle_source
from tests.pruning.nets import FAMILY, UP, Net, Sounds, Woven, seeded
from validation.conformance.tiny_models import contents, quiet
from workloads.bundle import MaskBundle
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.routing import UNIFORM
from workloads.uses import Use, uses_of


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def network(module: nn.Module, example: torch.Tensor) -> Network:
    return Network("net", with_linears(module), example, None, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("family") / "tiny.py"
    file.write_text(FAMILY)
    return f"{file}:Tiny"


def run(model: str, out: Path, method: str, data: int = 6, **asked) -> MaskBundle:
    opened = open_model(model, "float32")
    given = None if asked.get("pattern") else 0.5
    recipe = recipe_for(model, opened, PruneConfig(method, given, **asked), CalibrationConfig(samples=data))
    return prune(opened, recipe, out, quiet, quiet)


def test_states_are_samples_positions_channels():
    image = torch.randn(2, 3, 4, 5)
    assert torch.equal(packed(image, True)[:, 5 * 2 + 1], image[:, :, 2, 1])
    for tensor, first in ((image, True), (image, False), (image[:, 0, 0], False), (image[:, 0, 0], True)):
        assert torch.equal(unpacked(packed(tensor, first), tuple(tensor.shape[1:]), first), tensor)
    assert packed(image[:, 0, 0, 0], False).shape == (2, 1, 1)


@pytest.mark.parametrize(
    ("module", "example", "units"), [(Net(), images(), 5), (Sounds(), torch.randn(3, 40), 3)], ids=["conv", "recurrent"]
)
def test_units_one_after_the_other_are_the_network(module, example, units):
    whole = seeded(module)
    wanted = whole(example)
    made = network(whole, example)
    assert len(made.units) == units  # of Net: stem, the residual block, grouped and depth-wise, point, head
    torch.testing.assert_close(made.run(example), wanted)


def test_units_of_more_matrices():
    whole = seeded(Net())
    units = units_of(whole, images(), 3)
    assert [len(list(matrices(unit.module, 0))) for unit in units] == [3, 4]  # the grouped convolution counts twice
    assert len(units_of(whole, images(), 99)) == 1


def test_a_units_matrices_are_a_number():
    with pytest.raises(UserError, match="a number from 1"):
        find_family("silero")[0].open("split/few", torch.float32, "cpu")


def test_a_residual_block_is_one_unit():
    units = units_of(seeded(Net()), images())
    assert [ref.layer.name for ref in matrices(units[1].module, 1)] == ["first", "second"]


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.Conv2d(4, 6, 3, padding="same", groups=2),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(4, 6, 5, stride=3, padding=2, bias=False),
    ],
)
def test_windows_times_the_matrix_are_the_convolution(module):
    example = torch.randn(2, 4, *((9, 8) if isinstance(module, nn.Conv2d) else (11,)))
    refs = list(matrices(nn.Sequential(module), 0))
    made = torch.cat([ref.inputs(example) @ ref.matrix(module).T for ref in refs], dim=1)
    wanted = module(example)
    if module.bias is not None:
        wanted = wanted - module.bias.view(1, -1, *[1] * (example.ndim - 2))
    torch.testing.assert_close(made, wanted.flatten(2).transpose(1, 2).flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_masked_groups_are_the_convolution_with_those_weights_zero(tiny, tmp_path):
    bundle = run(tiny, tmp_path / "out", "magnitude")
    masked, own = open_model(tiny, "float32"), seeded(Net())
    dense = own.depthwise.weight.clone()
    for number in range(2):  # the rows of a group are its half of the filters
        kept = torch.from_numpy(bundle[f"grouped.group{number}"].to_dense()).reshape(8, 4, 3, 3)
        own.grouped.weight.data[8 * number : 8 * number + 8] *= kept
    for name in ("stem", "first", "second", "point", "head"):
        weight = own.get_submodule(name).weight
        weight.data *= torch.from_numpy(bundle[name].to_dense()).reshape(weight.shape)
    assert "depthwise" not in bundle
    apply_bundle(masked, bundle)
    masked.load_all()
    torch.testing.assert_close(masked.run(images()), own(images()))
    assert torch.equal(masked.model.depthwise.weight, dense)
    assert int((masked.model.grouped.weight == 0).sum()) == 16 * 4 * 9 // 2


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True),
        nn.LSTM(3, 5, bias=False),
        nn.GRU(3, 5, num_layers=2),
    ],
)
def test_recurrent_layers_of_linears_are_torchs(module, split):
    example = torch.randn(4, 6, 3)
    wanted, state = module(example)
    made, own = with_linears(nn.Sequential(module), split)[0](example)
    torch.testing.assert_close(made, wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(own, state, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", [nn.LSTMCell(3, 5), nn.GRUCell(3, 5)])
def test_cells_of_linears_are_torchs(cell):
    given, made = torch.randn(4, 3), with_linears(nn.Sequential(cell), True)[0]
    torch.testing.assert_close(made(given), cell(given), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(made(given, cell(given)), cell(given, cell(given)), atol=1e-6, rtol=1e-5)


def test_what_a_sample_asks_of_matrices():
    uses = network(seeded(Net()), images()).uses
    assert uses["stem"] == Use(144, 1, "convolution 3x3 stride 1x1 by im2col, 12x12 positions", 3 * 144 / (144 * 27))
    assert uses["grouped.group1"].tokens == 25
    assert uses["head"] == Use()
    sounds = network(seeded(Sounds()), torch.randn(2, 40)).uses
    assert sounds["remember.layers.0.input.all"] == Use(20, 1)  # all steps at once
    assert sounds["remember.layers.0.hidden.all"] == Use(1, 20)  # step after step


def test_channels_between_two_matrices_are_found():
    made = network(seeded(Net()), images())
    found = {(g.source.layer.name, g.target.layer.name, g.norms) for g in made.channels.groups}
    # the stem's channels go into the residual too, a grouped or depth-wise convolution's to no whole matrix
    assert found == {("first", "second", ("first_norm",)), ("point", "head", ())}
    assert isinstance(made.channels, ChannelMap)


def test_channels_that_others_meet_stay(capsys):
    made = network(seeded(Woven()), images())
    assert [(g.source.layer.name, g.target.layer.name) for g in made.channels.groups] == [("squeeze", "excite")]
    assert capsys.readouterr().err == ""
    torch.testing.assert_close(made.run(images()), seeded(Woven())(images()), atol=1e-6, rtol=1e-5)  # left as it was


def test_matrices_that_no_module_is_called_for_stay():
    made = network(seeded(Woven()), images())
    assert set(made.uses) == {"left", "right", "squeeze", "excite", "out", "head"}
    assert made.left_alone == {"matrices of nn.MultiheadAttention": 2}
    assert made.left_dense == "net: matrices of nn.MultiheadAttention (2) are left dense, and have no rows"
    assert network(seeded(Net()), images()).left_dense == ""  # depth-wise ones are no matrices


def test_transposed_convolutions_are_told_of_and_left_alone(tmp_path):
    (tmp_path / "up.py").write_text(UP)
    told = []
    opened = open_model(f"{tmp_path}/up.py:Up", "float32")
    recipe = recipe_for("up", opened, PruneConfig("magnitude", 0.5), CalibrationConfig())
    bundle = run_prune(opened, recipe, tmp_path / "out", None, "dense", quiet, told.append)
    assert told == ["up: transposed convolutions (1) are left dense, and have no rows"]
    assert [entry.name for entry in bundle.layers] == ["0"]


@pytest.mark.parametrize("method", ["magnitude-sp", "wanda-sp", "flap"])
def test_a_network_without_channels_gives_what_zeros_in_their_place_give(tiny, tmp_path, method):
    bundle = run(tiny, tmp_path / "out", method, **({"set": {"bias": False}} if method == "flap" else {}))
    smaller = open_model(tiny, "float32")
    family_of(smaller).quality(smaller, bundle, EvaluationConfig(), quiet)  # applies the bundle
    zeroed = network(seeded(Net()), images())
    for name, cut in bundle.removal.cuts.items():
        module = zeroed.model.get_submodule(name)
        module.weight.data.flatten(1)[:, torch.from_numpy(~cut.cols)] = 0
    assert bundle.removal.cuts["second"].shape[1] < 12 * 9
    assert smaller.model.first.weight.shape[0] == bundle.removal.cuts["first"].rows.sum()
    torch.testing.assert_close(smaller.run(images()), zeroed.run(images()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "wanda-pp", "ria", "sparsegpt", "besa", "dpp"])
def test_half_of_a_network_goes(tiny, tmp_path, method):
    bundle = run(tiny, tmp_path / "out", method)
    assert bundle.sparsity == pytest.approx(0.5, abs=1 / 100)
    assert bundle.header.model_config["family"] == "tiny-net"
    assert set(uses_of(bundle.header.model_config)) == {entry.name for entry in bundle.layers}


@pytest.mark.parametrize("permute", ["fold", "gather"])
def test_channels_of_a_network_change_places_for_a_gather_alone(tiny, tmp_path, permute):
    plain = run(tiny, tmp_path / "plain", "ria", pattern="1:2", fallback="skip")
    moved = run(tiny, tmp_path / "moved", "ria", pattern="1:2", fallback="skip", set={"permute": permute})
    assert moved.sparsity == plain.sparsity
    same = all((moved[name].to_dense() == plain[name].to_dense()).all() for name in uses_of(plain.header.model_config))
    assert same is (permute == "fold")


def test_wanda_on_a_convolution_ranks_by_its_windows(tiny, tmp_path):
    bundle = run(tiny, tmp_path / "out", "wanda")
    samples = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    weight, padded = seeded(Net()).stem.weight, torch.nn.functional.pad(samples, (1, 1, 1, 1))
    norm = torch.stack(
        [padded[:, c, y : y + 12, x : x + 12].square().sum() for c in range(3) for y in range(3) for x in range(3)]
    ).sqrt()
    score = weight.detach().flatten(1).abs() * norm
    keep = bundle["stem"].to_dense()
    for row, kept in zip(score, keep, strict=True):
        assert row[torch.from_numpy(kept)].min() > row[torch.from_numpy(~kept)].max()


def test_two_of_four_in_windows(tiny, tmp_path):
    bundle = run(tiny, tmp_path / "out", "wanda", pattern="2:4", fallback="skip")
    assert {entry.name: entry.pattern for entry in bundle.layers}["first"] == "2:4"  # 8 x 9 inputs
    bundle.validate()


@pytest.mark.parametrize("killed_at", [1, 2, 3])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_a_killed_run_goes_on_to_the_same_bytes(tiny, method, killed_at, tmp_path, monkeypatch):
    """States that were read back lie in memory as those that were not, so that convolutions round alike."""
    run(tiny, tmp_path / "whole", method)
    calls, real = [], calibrated.add_all

    def dies(*args):
        calls.append(args)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(calibrated, "add_all", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "killed", method)
    monkeypatch.undo()
    run(tiny, tmp_path / "killed", method)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_rows_have_a_samples_positions_and_steps(tiny, tmp_path):
    source = bundle_source(run(tiny, tmp_path / "out", "magnitude"))
    stem = next(linear for linear in source.linears if linear.name == "stem")
    load = UNIFORM.load(source.header, stem, Conditions(4).tokens)
    assert (load.tokens, load.executions) == (4 * 144, 1)


def test_families_are_found_by_name_file_and_else_are_transformers(tiny):
    assert find_family("some/model") == (TRANSFORMERS, "some/model")
    assert find_family("crepe:tiny")[1] == "tiny"
    assert find_family(tiny)[0].name == "tiny-net"
    with pytest.raises(UserError, match="it can be pruned, evaluated and simulated"):
        open_checkpoint(tiny, "float32")


def test_samples_of_another_shape_are_refused(tiny, tmp_path):
    np.savez(tmp_path / "data.npz", samples=np.zeros((4, 3, 8, 8), np.float32))
    opened = open_model(tiny, "float32")
    data = CalibrationConfig(calibration=str(tmp_path / "data.npz"))
    recipe = recipe_for(tiny, opened, PruneConfig("wanda", 0.5), data)
    with pytest.raises(UserError, match=r"reads samples of \(3, 12, 12\), the data has samples of \(3, 8, 8\)"):
        prune(opened, recipe, tmp_path / "out", quiet, quiet)


def test_a_path_that_depends_on_values_is_refused():
    class Branches(nn.Linear):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return super().forward(given) if given.sum() > 0 else given

    with pytest.raises(UserError, match="cannot be followed by torch"):
        network(nn.Sequential(nn.Linear(3, 3), Branches(3, 3)), torch.randn(2, 3))


def test_obs_takes_channels_out_too(tiny, tmp_path):
    assert run(tiny, tmp_path / "out", "obs-sp").removal.cuts["first"].shape[0] < 12


CHAIN = """
import torch
from torch import nn
from prunesim.families import NetworkFamily
from tests.pruning.nets import seeded


class Chain(NetworkFamily):
    name = "chain"

    def build(self, variant):
        return seeded(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4)))

    def samples(self, count, seed):
        return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))

    def measure(self, run):
        data = self.samples(16, 99)
        return float((run(data) - self.build("")(data)).square().mean()), 16
"""


@pytest.mark.parametrize("method", ["obs-sp", "evolution", "flap", "ffr"])
def test_a_matrix_between_two_that_lose_channels_loses_both_ways(tmp_path, method):
    """Its new weights, where it has some, have the rows that stay, and the columns."""
    (tmp_path / "chain.py").write_text(CHAIN)
    name = f"{tmp_path}/chain.py:Chain"
    more = {"set": {"generations": 1, "population": 4, "elites": 2, "mutations": 1, "crossovers": 1}}
    bundle = run(name, tmp_path / "out", method, **(more if method == "evolution" else {}))
    rows, columns = bundle.removal.cuts["2"].shape
    assert rows < 8
    assert columns < 9
    assert bundle["2"].to_dense().shape == (rows, columns)
    found = family_of(smaller := open_model(name, "float32")).quality(smaller, bundle, EvaluationConfig(), quiet)
    assert smaller.model[2].weight.shape == (rows, columns)
    assert np.isfinite(found.value)


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("cfsp", "neurons of one input"), ("shortgpt", "channels, which count"),
        ("blockpruner", "channels, which count"),
    ],
)  # fmt: skip
def test_what_a_network_cannot_do_is_one_line(tiny, tmp_path, method, why):
    with pytest.raises(UserError, match=why):
        run(tiny, tmp_path / "out", method)


def test_a_network_has_no_phases():
    with pytest.raises(UserError, match="no prefill and no decode"):
        decoder_of({"family": "tiny-net", "uses": {}})


def test_a_networks_quality_in_python(tiny):
    assert prunesim.evaluate(tiny).frame["value"].item() == 0
    with pytest.raises(UserError, match="measured on samples of its own"):
        prunesim.evaluate(tiny, text="a.txt")
