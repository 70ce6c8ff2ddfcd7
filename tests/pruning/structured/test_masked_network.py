"""What silent channels cost a network, against networks without them, and the methods that go by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints.network import Network
from pruning.config import CalibrationConfig, EvaluationConfig, PruneConfig
from pruning.families import family_of
from pruning.families.channels import ChannelGroups
from pruning.methods.structured.evolution import Evolution
from pruning.run.driver import prune
from pruning.structured.held_apart import held_apart
from pruning.structured.masked_network import MaskedNetwork
from pruning.structured.units import UnitGroup
from studies.prune import open_model, recipe_for
from tests.pruning.nets import FAMILY, Net, seeded
from validation.conformance.tiny_models import contents, quiet
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel
from workloads.removal import NEURON

SEARCHES: dict[str, dict[str, Any]] = {
    "policy-gradient": {"steps": 6, "masks": 3},
    "stamp": {"steps": 4, "adapt": 2, "hidden": 8},
    "evolution": {"generations": 2, "population": 6, "elites": 2, "mutations": 3, "crossovers": 2},
}


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("family") / "nets.py"
    path.write_text(FAMILY)
    return f"{path}:Tiny"


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def opened(name: str, dtype: str = "float32") -> tuple[Network, dict[str, UnitGroup]]:
    network = open_model(name, dtype)
    assert isinstance(network, Network)
    found = ChannelGroups(network, frozenset({NEURON}))
    groups = [group for number in range(len(network.blocks)) for group in found.groups(number, nn.Identity(), [])]
    return network, {group.module: group for group in groups}


def run(name: str, out: Path, method: str, samples: int = 8, **settings: Any) -> MaskBundle:
    network = open_model(name, "float32")
    asked = PruneConfig(method, 0.3, set=settings)
    return prune(network, recipe_for(name, network, asked, CalibrationConfig(samples=samples)), out, quiet, quiet)


def mean_square(outputs: torch.Tensor, others: torch.Tensor) -> float:
    return float((outputs.double() - others.double()).square().mean())


def without(kept: dict[str, np.ndarray], groups: dict[str, UnitGroup]) -> Net:
    """The network with zeros in the columns of what goes, groups by the matrix whose outputs they are."""
    net = seeded(Net())
    for source, stays in kept.items():
        weight = net.get_submodule(groups[source].output.layer.name).weight
        weight.data.flatten(1)[:, torch.from_numpy(~np.repeat(stays, groups[source].features))] = 0
    return net


def test_a_loss_is_the_distance_between_outputs_over_that_of_different_samples(name: str) -> None:
    network, groups = opened(name)
    x, dense = images(), seeded(Net())(images()).detach()
    sets = [{source: np.arange(group.count) % 3 != n for source, group in groups.items()} for n in (0, 1)]
    sets.append({})
    assert {"first", "point"} <= set(groups)  # read by a convolution, and by a linear that sees 25 places of each
    with MaskedNetwork(network, groups.values(), x) as masked:
        found = masked.losses([{groups[s].key: stays for s, stays in kept.items()} for kept in sets], x)
        again = masked.losses([{}], x)
    unit = mean_square(dense, dense.roll(1, 0))
    for kept, loss in zip(sets, found, strict=True):
        assert loss == pytest.approx(mean_square(without(kept, groups)(x), dense) / unit, rel=1e-4, abs=1e-9)
    assert again == [pytest.approx(0, abs=1e-9)]  # nothing of it stays in the network
    torch.testing.assert_close(network.run(x), dense, rtol=1e-5, atol=1e-5)


def test_what_is_filled_in_is_filled_in_by_hand(name: str) -> None:
    """Of the linear head: y = W x with the silent features of x replaced by R times the others."""
    network, groups = opened(name)
    group, x = groups["point"], images()
    stays = np.arange(group.count) != 2
    columns = torch.from_numpy(np.repeat(stays, group.features))
    filling = torch.randn(int((~columns).sum()), int(columns.sum()), generator=torch.Generator().manual_seed(3)) / 20
    net, seen = seeded(Net()), []
    net.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    dense = net(x).detach()
    inputs = seen[0].detach().clone()
    inputs[:, ~columns] = inputs[:, columns] @ filling.T
    wanted = mean_square(net.head(inputs).detach(), dense) / mean_square(dense, dense.roll(1, 0))
    with MaskedNetwork(network, [group], x) as masked:
        (found,) = masked.losses([{group.key: stays}], x, lambda key, kept: filling)
    assert found == pytest.approx(wanted, rel=1e-4)


def test_gates_of_zero_are_silence_and_have_a_gradient(name: str) -> None:
    network, groups = opened(name, "float32")
    x, draw = images(), torch.Generator().manual_seed(0)
    kept = {group.key: np.arange(group.count) % 2 == 0 for group in groups.values()}
    with MaskedNetwork(network, groups.values(), x) as masked:
        (loss,) = masked.losses([kept], x)
        shut = float(masked.apart(x, {key: torch.from_numpy(stays).float() for key, stays in kept.items()}))
        gates = {group.key: torch.rand(group.count, generator=draw) for group in groups.values()}
        for key in gates:
            with torch.enable_grad():
                leaf = gates[key].clone().requires_grad_()
                (slope,) = torch.autograd.grad(masked.apart(x, gates | {key: leaf}), leaf)
            unit = int(slope.abs().argmax())
            ends = []
            for change in (0.01, -0.01):
                other = gates[key].clone()
                other[unit] += change
                ends.append(float(masked.apart(x, gates | {key: other})))
            assert (ends[0] - ends[1]) / 0.02 == pytest.approx(float(slope[unit]), rel=0.02)
    assert shut == pytest.approx(loss, rel=1e-4)


def test_what_is_seen_are_windows_of_convolutions(name: str) -> None:
    network, groups = opened(name)
    x, seen, inner = images(1), {}, []
    net = seeded(Net())
    net.second.register_forward_pre_hook(lambda _, args: inner.append(args[0].detach()))
    net(x)
    with MaskedNetwork(network, groups.values(), x) as masked:
        masked.watch(x, seen.__setitem__)
    wanted = nn.functional.unfold(inner[0], 3, padding=1)[0].T  # 144 places of 12 x 3 x 3
    torch.testing.assert_close(seen[groups["first"].key], wanted, rtol=1e-4, atol=1e-5)


def test_samples_held_apart_do_not_depend_on_their_order() -> None:
    x = images(6) / 10  # whose whole parts are all 0
    scoring, judging = held_apart(x, 2)
    turned = held_apart(x.flip(0), 2)
    assert len(scoring) == 4
    assert torch.equal(judging, turned[1])
    assert sorted(map(float, scoring.sum((1, 2, 3)))) == sorted(map(float, turned[0].sum((1, 2, 3))))


@pytest.mark.parametrize("method", SEARCHES)
def test_channels_go_by_the_whole_network(name: str, tmp_path: Path, method: str) -> None:
    """30 % of them, to a network of smaller matrices that gives what zeros in their place give."""
    bundle = run(name, tmp_path / "masks", method, **SEARCHES[method])
    smaller, (_, groups) = open_model(name, "float32"), opened(name)
    family_of(smaller).quality(smaller, bundle, EvaluationConfig(), quiet)  # applies the bundle
    taken = sum(int((~units.kept).sum()) for units in bundle.removal.units)
    assert taken == pytest.approx(0.3 * sum(group.count for group in groups.values()), abs=2)
    if method != "evolution":  # which gives the others new weights
        kept = {units.module: units.kept for units in bundle.removal.units}
        torch.testing.assert_close(smaller.run(images()), without(kept, groups)(images()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", SEARCHES)
def test_a_killed_search_goes_on_to_the_same_bytes(
    name: str, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(name, tmp_path / "whole", method, **SEARCHES[method])
    calls, real = [0], (MaskedNetwork.losses, MaskedNetwork.apart)

    def killed(which: int) -> Any:
        def of(self: MaskedNetwork, *given: Any) -> Any:
            calls[0] += 1
            if calls[0] == 4:
                raise KeyboardInterrupt
            return real[which](self, *given)

        return of

    monkeypatch.setattr(MaskedNetwork, "losses", killed(0))
    monkeypatch.setattr(MaskedNetwork, "apart", killed(1))
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "killed", method, **SEARCHES[method])
    assert calls[0] == 4
    run(name, tmp_path / "killed", method, **SEARCHES[method])
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_search_is_no_worse_than_its_start(name: str, tmp_path: Path) -> None:
    """Of evolution by inherited weights: the uniform candidate is its first."""
    network, groups = opened(name)
    settings = SEARCHES["evolution"] | {"fitness": "inherited", "reform": "none", "order": "wanda"}
    found = run(name, tmp_path / "found", "evolution", **settings)
    first = run(name, tmp_path / "first", "evolution", **(settings | {"generations": 1, "population": 1, "elites": 1,
                "mutations": 0, "crossovers": 0}))  # fmt: skip
    apart = Evolution(**settings).held_apart(8)
    judging = held_apart(network.family.samples(8, 0), apart)[1]
    with MaskedNetwork(network, groups.values(), judging) as masked:
        best, uniform = masked.losses([{u.key: u.kept for u in b.removal.units} for b in (found, first)], judging)
    assert best <= uniform


def test_blocks_cannot_go(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotForThisModel, match="leave `depth` of evolution at 0"):
        run(name, tmp_path / "out", "evolution", depth=1)
    with pytest.raises(NotForThisModel, match="which count as neurons, and no other units"):
        run(name, tmp_path / "out", "blockpruner")
    assert not (tmp_path / "out").exists()
