"""The method `evolution` on tiny models: its laws, what its search saw, and its new weights against plain twins."""

from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_weight
from pruning.methods.structured.evolution import Evolution
from pruning.run.driver import prune
from pruning.structured.held_apart import held_apart
from pruning.structured.masked_model import MaskedModel
from tests.pruning.recipes import recipe
from validation.conformance.laws import hold
from validation.conformance.methods import OF_UNITS
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from validation.conformance.trial import subject_of
from workloads.errors import UserError

IDS = token_ids(6, 12)
QUICK = {"generations": 2, "population": 5, "elites": 2, "mutations": 2, "crossovers": 1}
UNIFORM = {"generations": 1, "population": 1, "mutations": 0, "crossovers": 0}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


def pruned(model: Path, out: Path, sparsity: float = 0.4, **wanted):
    asked = recipe("evolution", sparsity, ids=IDS, **{**QUICK, **wanted})
    return prune(Checkpoint(model), asked, out, quiet, quiet)


@pytest.mark.parametrize("law", OF_UNITS, ids=lambda law: law.name)
@pytest.mark.parametrize(
    "more", [{}, {"depth": 1, "swaps": 1, "reform": "none", "order": "wifv"}], ids=["sizes", "all"]
)
def test_the_laws_of_units(law, more):
    found = hold(law, subject_of(Evolution(**QUICK, **more)))
    assert found.status == "passed", found.detail


@pytest.fixture
def looks(monkeypatch) -> list[tuple[dict, torch.Tensor, float]]:
    """What the model was asked, and what it said."""
    seen = []
    real = MaskedModel.losses

    def losses(self, sets, ids, fill=None):
        found = real(self, sets, ids, fill)
        seen.extend((kept, ids, loss) for kept, loss in zip(sets, found, strict=True))
        return found

    monkeypatch.setattr(MaskedModel, "losses", losses)
    return seen


def test_the_best_of_what_was_seen_stays(llama, tmp_path, looks):
    """Judged by sequences that scored nothing; uniform came first; nothing twice."""
    bundle = pruned(llama, tmp_path / "out", reform="none")
    (ids,) = {id(ids): ids for _, ids, _ in looks}.values()
    assert torch.equal(ids, held_apart(IDS, 2)[1])  # a quarter of 6
    best = min(looks, key=lambda look: look[2])[0]
    assert {unit.key: unit.kept.tolist() for unit in bundle.removal.units} == {k: v.tolist() for k, v in best.items()}
    uniform = pruned(llama, tmp_path / "uniform", reform="none", **UNIFORM)
    for unit in uniform.removal.units:
        assert looks[0][0][unit.key].tolist() == unit.kept.tolist()
    seen = [tuple(np.concatenate(list(kept.values())).tolist()) for kept, _, _ in looks[:-1]]
    assert len(seen) == len(set(seen)) == 10


def test_sequences_held_apart():
    ids = token_ids(7, 9)
    scoring, judging = held_apart(ids, 3)
    assert sorted(scoring.tolist() + judging.tolist()) == sorted(ids.tolist())
    assert len(judging) == 3
    turned = held_apart(ids.flip(0), 3)
    assert torch.equal(turned[1], judging)
    assert torch.equal(turned[0], scoring.flip(0))


def test_the_same_bytes_whatever_the_threads(llama, tmp_path, monkeypatch):
    for threads in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        pruned(llama, tmp_path / threads)
    for file in sorted((tmp_path / "1").iterdir()):
        assert file.read_bytes() == (tmp_path / "3" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("reform", ["exact", "admm"])
def test_new_weights_are_least_squares_on_pruned_inputs(llama, tmp_path, reform):
    """Of the second block's down, on what the first one gives without its units and with its new weights."""
    more = {"reform": reform, "units": "ffn", "damp": 0.001, "percdamp": 0.001, "rho": 0.3, "iterations": 3000}
    bundle = pruned(llama, tmp_path / "out", 0.5, **UNIFORM, **more)
    model, inputs = load_whole(llama, torch.float32), {}
    first, second = (f"model.layers.{n}.mlp.down_proj" for n in (0, 1))
    with torch.no_grad():
        down = model.get_submodule(first)
        kept = torch.from_numpy(bundle.removal.cuts[first].cols)
        down.weight[:] = 0
        down.weight[:, kept] = read_weight(bundle, first).float()
        hook = lambda module, args: inputs.__setitem__("x", args[0].flatten(0, 1).double())  # noqa: E731
        model.get_submodule(second).register_forward_pre_hook(hook)
        model(IDS)
    gram, kept = inputs["x"].T @ inputs["x"], torch.from_numpy(bundle.removal.cuts[second].cols)
    ridge = gram.diagonal().mean() * torch.ones(len(gram)) if reform == "exact" else gram.diagonal()
    gram = gram + 0.001 * torch.diag(ridge).double()
    weight = model.get_submodule(second).weight.detach().double()
    best = weight @ gram[:, kept] @ torch.linalg.inv(gram[kept][:, kept])
    made = read_weight(bundle, second).double()
    torch.testing.assert_close(made, best, rtol=0, atol=5e-3 * float(best.abs().max()))
    assert float((made - weight[:, kept]).abs().max()) > 0.1 * float(best.abs().max())


def test_blocks_that_go(llama, tmp_path, monkeypatch):
    """A loss that likes the model without its second block best."""

    def losses(self, sets, ids, fill=None):
        return [float(any(own.any() for key, own in kept.items() if ".layers.1." in key)) for kept in sets]

    monkeypatch.setattr(MaskedModel, "losses", losses)
    bundle = pruned(llama, tmp_path / "out", 0.6, depth=1, population=20, reform="exact")
    assert bundle.removal.blocks == frozenset({1})
    assert 1 not in {unit.block for unit in bundle.removal.units}
    bundle.validate()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"mutations": 5}, "5 mutations and 1 crossovers are more than a population of 5; raise `population`"),
        ({"depth": 1, "units": "ffn"}, "leave `units` at all, or `depth` at 0"),
        ({"generations": 0}, "generations = 0"),
        ({"held_out": 1.0}, "held_out = 1.0"),
        ({"order": "magnitude"}, "order = 'magnitude'"),
        ({"reform": "obs"}, "reform = 'obs'"),
        ({"rho": 0}, "rho = 0"),
        ({"elite": 3}, "evolution has no parameter 'elite'"),
    ],
)
def test_settings_that_cannot_be(wanted, message):
    with pytest.raises(UserError, match=message):
        recipe("evolution", 0.5, **{**QUICK, **wanted})


@pytest.mark.parametrize(
    ("sparsity", "ids", "message"),
    [
        (0.99, IDS, "no sizes come near a sparsity of 0.99 while every attention and FFN keeps a unit"),
        (0.5, IDS[:1], "score no unit, 1 of 1; give more `samples`"),
        (0.5, IDS[:, :1], "at least 2 tokens; raise `seq_len`"),
    ],
)
def test_refusals_leave_nothing(llama, tmp_path, sparsity, ids, message):
    with pytest.raises(UserError, match=message):
        prune(Checkpoint(llama), recipe("evolution", sparsity, ids=ids, **QUICK), tmp_path / "out", quiet, quiet)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
