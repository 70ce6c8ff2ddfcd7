"""One contract for all pruning methods, and Wanda against a plain reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from pruning.forward import hidden_states as states
from pruning.methods.method import Evidence
from pruning.methods.wanda import Wanda
from pruning.run.driver import prune
from tests.pruning.contract import CASES, FEW, SPARSITY, Case, assert_exact, masks_of
from tests.pruning.recipes import recipe
from tests.thinned import thinned
from validation.conformance.tiny_models import build, contents, load_whole, quiet, save, token_ids
from workloads.errors import UserError


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 sequences of 12 tokens become batches of 2, 2 and 1."""
    monkeypatch.setattr(states, "BATCH_TOKENS", 30)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counts_are_exact_and_the_bundle_is_whole(case: Case, llama: Path, tmp_path: Path) -> None:
    before = contents(llama)
    chosen = case.recipe()
    bundle = prune(Checkpoint(llama), chosen, tmp_path, quiet, quiet)
    bundle.validate()
    path, blocks = find_blocks(build("llama"))
    layers = [ref.layer for n, block in enumerate(blocks) for ref in block_linears(block, f"{path}.{n}", n)]
    assert [entry.layer for entry in bundle.layers] == layers
    assert_exact(case, bundle)
    if "allocation" not in case.settings:
        promised = "unstructured" if "nm_budget" in case.settings else case.settings.get("pattern", "unstructured")
        assert {entry.pattern for entry in bundle.layers} == {promised}
    assert bundle.header.parameters["dtype"] == "float32"
    assert (bundle.header.calibration is not None) == chosen.needs_calibration
    own = ("bundle.json", "masks-", "values-")
    assert not [name for name in contents(tmp_path) if not name.startswith(own)]
    assert contents(llama) == before


@pytest.mark.parametrize("case", [c for c in CASES if "allocation" in c.settings and "pattern" not in c.settings],
                         ids=lambda case: case.name)  # fmt: skip
def test_allocated_sparsity_differs_and_hits_the_target(case: Case, llama: Path, tmp_path: Path) -> None:
    """Within what rounding every row down can lose."""
    bundle = prune(Checkpoint(llama), case.recipe(), tmp_path, quiet, quiet)
    assert SPARSITY - 1 / 32 < bundle.sparsity <= SPARSITY + 1e-9
    by_block = {entry.block: entry.sparsity for entry in bundle.layers}
    assert len({round(value, 3) for value in by_block.values()} | {round(e.sparsity, 3) for e in bundle.layers}) > 1


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_the_same_bytes_with_any_number_of_threads(
    case: Case, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        prune(Checkpoint(llama), case.recipe(), tmp_path / threads, quiet, quiet)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


def test_scores_are_taken_on_one_of_torchs_own_threads(llama: Path, tmp_path: Path) -> None:
    """A sum that torch splits among threads has other last bits on another machine."""
    seen: list[int] = []

    class Spied(Wanda):
        def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().score(weight, evidence)

    torch.set_num_threads(2)
    prune(Checkpoint(llama), replace(recipe("wanda", 0.3), method=Spied()), tmp_path, quiet, quiet)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


@torch.no_grad()
def reference_wanda(folder: Path, ids: torch.Tensor, sparsity: float) -> dict[str, np.ndarray]:
    """Block after block of a whole model in memory: hooks, |W| * norm, stable argsort of every row, zeroed in place."""
    model, masks = load_whole(folder), {}
    path, blocks = find_blocks(model)
    for number, block in enumerate(blocks):
        seen: dict[nn.Module, torch.Tensor] = {}
        linears = {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}
        handles = [
            m.register_forward_pre_hook(lambda m, args, s=seen: s.update({m: args[0]})) for m in linears.values()
        ]
        model(input_ids=ids, use_cache=False)
        for handle in handles:
            handle.remove()
        for name, module in linears.items():
            energy = seen[module].reshape(-1, module.in_features).double().square().sum(dim=0) / len(ids)
            scores = (module.weight.abs() * energy.sqrt().float()).numpy()
            order = np.argsort(scores, axis=1, kind="stable")
            keep = np.ones(scores.shape, bool)
            np.put_along_axis(keep, order[:, : int(scores.shape[1] * sparsity)], False, axis=1)
            module.weight[~torch.from_numpy(keep)] = 0
            masks[f"{path}.{number}.{name}"] = keep
    return masks


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "opt-projected", "phi"])
def test_streamed_wanda_equals_a_plain_reference_in_memory(family: str, tmp_path: Path) -> None:
    save(family, tmp_path / "model", shard_size="30KB")
    ids = token_ids(5, 12)
    bundle = prune(Checkpoint(tmp_path / "model"), recipe("wanda", 0.5, ids=ids), tmp_path / "out", quiet, quiet)
    expected = reference_wanda(tmp_path / "model", ids, 0.5)
    found = masks_of(bundle)
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)
    magnitude = prune(
        Checkpoint(tmp_path / "model"), recipe("magnitude", 0.5, rule="row"), tmp_path / "m", quiet, quiet
    )
    assert any(not np.array_equal(masks_of(magnitude)[name], mask) for name, mask in expected.items())


@pytest.mark.parametrize("normalised", [False, True])
def test_global_magnitude_equals_one_sort_over_everything(normalised: bool, llama: Path, tmp_path: Path) -> None:
    chosen = recipe("magnitude", 0.3, rule="global", normalised=normalised)
    found = masks_of(prune(Checkpoint(llama), chosen, tmp_path, quiet, quiet))
    weights = {name: load_whole(llama).get_parameter(f"{name}.weight").double() for name in found}
    scores = {n: w.abs() / (w.square().mean().sqrt() if normalised else 1) for n, w in weights.items()}
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    cut = flat.sort().values[len(flat) * 3 // 10]
    for name, score in scores.items():
        np.testing.assert_array_equal(found[name], (score >= cut).numpy(), err_msg=name)


@pytest.mark.parametrize(("case", "dtype"), thinned(FEW, [torch.float16, torch.bfloat16], every=2))
def test_half_precision_checkpoints(case: Case, dtype: torch.dtype, tmp_path: Path) -> None:
    save("llama", tmp_path / "model", dtype)
    for out in ("one", "two"):
        bundle = prune(Checkpoint(tmp_path / "model"), case.recipe(), tmp_path / out, quiet, quiet)
    assert_exact(case, bundle)
    assert bundle.header.parameters["dtype"] == str(dtype).removeprefix("torch.")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_a_model_of_one_block(case: Case, tmp_path: Path) -> None:
    save("llama", tmp_path / "model", num_hidden_layers=1)
    bundle = prune(Checkpoint(tmp_path / "model"), case.recipe(), tmp_path / "out", quiet, quiet)
    assert len(bundle) == 7
    assert_exact(case, bundle)


def test_a_finished_run_is_returned_as_it_is(llama: Path, tmp_path: Path) -> None:
    first = prune(Checkpoint(llama), recipe("wanda"), tmp_path, quiet, quiet)
    again = prune(Checkpoint(llama), recipe("wanda"), tmp_path, lambda *_: pytest.fail("pruned again"), quiet)
    assert again.sha256 == first.sha256
    with pytest.raises(UserError, match="already holds another bundle"):
        prune(Checkpoint(llama), recipe("wanda", 0.25), tmp_path, quiet, quiet)
