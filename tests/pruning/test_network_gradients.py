"""Gradients of networks: torch's own of the plain module, by differences, and what has none."""

from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from pruning.evidence.gradients import read_gradients
from pruning.evidence.network_gradients import write_network_gradients
from pruning.families.network import NetworkFamily
from pruning.forward.network_walk import NetworkWalk
from tests.pruning.nets import FAMILY, Net, Sounds, seeded
from tests.pruning.test_networks import images, network, run
from validation.conformance.tiny_models import contents, quiet
from workloads.errors import NotForThisModel, UserError

SUMS = ("l1", "l2", "sum")


class Sized(NetworkFamily):
    """The loss that a family has unless it says otherwise."""

    name = "sized"


class Squared(Sized):
    """One of its own, of outputs and samples."""

    def loss(self, output, samples):
        return (output.mean() - samples.mean()).square()


class Chosen(Sized):
    def loss(self, output, samples):
        return output.argmax(dim=1).float().mean()


def gradients(module: nn.Module, samples: torch.Tensor, family: type[Sized], folder: Path):
    opened = network(module, samples[:2])
    opened.family = family()
    write_network_gradients(NetworkWalk(opened), opened.found_refs(), samples, SUMS, folder, quiet)
    found: dict[str, dict[str, torch.Tensor]] = {which: {} for which in SUMS}
    for number in range(len(opened.blocks)):
        for which, own in read_gradients(folder, number).items():
            found[which] |= own
    return opened, found


@pytest.mark.parametrize("family", [Sized, Squared])
def test_sums_are_those_of_the_plain_module(family, tmp_path):
    """A residual, a grouped convolution (two matrices of a parameter) and a linear."""
    samples = images(4)
    opened, found = gradients(seeded(Net()), samples, family, tmp_path)
    plain, each = seeded(Net()).eval(), {}
    for sample in samples.split(1):
        plain.zero_grad()
        family().loss(plain(sample), sample).backward()
        for name, parameter in plain.named_parameters():
            each.setdefault(name, []).append(parameter.grad.clone())
    for ref in (ref for unit in opened.found_refs() for ref in unit):
        own = torch.stack([ref.view(gradient) for gradient in each[f"{ref.module_path}.weight"]])
        name = ref.layer.name
        torch.testing.assert_close(found["l1"][name], own.abs().sum(dim=0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["l2"][name], own.square().sum(dim=0).sqrt(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["sum"][name], own.sum(dim=0), atol=1e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in opened.model.parameters())


def test_of_a_recurrent_layer_by_differences(tmp_path):
    samples = torch.randn(3, 40, generator=torch.Generator().manual_seed(2))
    opened, found = gradients(seeded(Sounds()), samples, Sized, tmp_path)
    for ref in (ref for unit in opened.found_refs() for ref in unit):
        weight = ref.matrix(opened.blocks[ref.layer.block])
        place = divmod(int(found["sum"][ref.layer.name].abs().argmax()), weight.shape[1])
        losses = []
        for change in (1e-2, -1e-2):
            weight[place] += change
            losses.append(sum(float(opened.run(sample).norm()) for sample in samples.split(1)))
            weight[place] -= change
        wanted = (losses[0] - losses[1]) / 2e-2
        assert float(found["sum"][ref.layer.name][place]) == pytest.approx(wanted, rel=2e-2)


def test_outputs_that_are_chosen_have_none(tmp_path):
    with pytest.raises(NotForThisModel, match=r"net: the loss of its outputs has no gradient; give its family a `loss"):
        gradients(seeded(Net()), images(), Chosen, tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("family") / "tiny.py"
    file.write_text(FAMILY)
    return f"{file}:Tiny"


@pytest.mark.parametrize("method", ["gblm", "wanda-pp", "taylor-sp"])
def test_methods_run_whatever_the_threads(method, tiny, tmp_path, monkeypatch):
    for threads in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        made = run(tiny, tmp_path / threads, method)
    assert sum(entry.nnz for entry in made.entries) < sum(prod(entry.unpruned.shape) for entry in made.entries)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_taylor_takes_the_channels_that_the_loss_does_not_see(tmp_path):
    """A channel whose reader multiplies it by nothing has no slope, and goes."""
    file = tmp_path / "blind.py"
    file.write_text(
        FAMILY.replace("class Tiny", "class Blind").replace(
            "        return seeded(Net())\n\n    def samples",
            "        net = seeded(Net())\n        with torch.no_grad():\n            net.second.weight[:, 3] = 0\n"
            "            net.second.weight[:, 7] = 0\n        return net\n\n    def samples",
        )
    )
    from pruning.config import CalibrationConfig, PruneConfig
    from pruning.run.driver import prune
    from studies.prune import open_model, recipe_for

    opened = open_model(f"{file}:Blind", "float32")
    asked = recipe_for(str(file), opened, PruneConfig("taylor-sp", 2 / 12), CalibrationConfig(samples=4))
    bundle = prune(opened, asked, tmp_path / "out", quiet, quiet)
    (own,) = [unit for unit in bundle.removal.units if unit.key.startswith("first")]
    assert [n for n, stays in enumerate(own.kept) if not stays] == [3, 7]


def test_gradients_are_finite_or_refused(tmp_path):
    class Endless(Sized):
        def loss(self, output, samples):
            return output.sum() * torch.inf

    with pytest.raises(UserError, match="a gradient is NaN or Inf in float32"):
        gradients(seeded(Net()), images(), Endless, tmp_path)
