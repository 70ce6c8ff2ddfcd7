"""What the driver makes of unusual models: broken weights, dead inputs, experts nobody asks."""

from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.run.driver import prune
from tests.pruning.contract import FEW, Case, assert_exact
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, quiet, save, token_ids
from workloads.errors import UserError


def refused(model: Path, chosen, out: Path) -> str:
    """The one line of the refusal; nothing that could pass for masks is written."""
    with pytest.raises(UserError) as refusal:
        prune(Checkpoint(model), chosen, out, quiet, quiet)
    assert not out.exists() or not list(out.iterdir())
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(case: Case, value: float, tmp_path: Path) -> None:
    model = build("llama")
    model.model.layers[1].mlp.down_proj.weight[3, 5:7] = value
    model.save_pretrained(tmp_path / "model")
    message = refused(tmp_path / "model", case.recipe(), tmp_path / "out")
    assert message.startswith("model.layers.1.mlp.down_proj: 2 of 1536 weights are NaN or Inf")


@pytest.mark.parametrize("method", ["magnitude", "wanda", "gblm", "sparsegpt", "besa"])
def test_a_pattern_that_does_not_divide_names_the_layer(method: str, tmp_path: Path) -> None:
    save("llama", tmp_path / "model", intermediate_size=50)
    message = refused(tmp_path / "model", recipe(method, pattern="2:4"), tmp_path / "out")
    assert "model.layers.0.mlp.down_proj" in message
    assert "not 50" in message


ACTIVE = [case for case in FEW if case.recipe().needs - {"gradients_l1", "gradients_l2"}]


@pytest.mark.parametrize("case", ACTIVE, ids=lambda case: case.name)
def test_activations_that_overflow_are_told(case: Case, tmp_path: Path) -> None:
    model = build("llama")
    model.model.layers[0].mlp.up_proj.weight *= 3e4
    model.half().save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"NaN or Inf.*`dtype=float32`"):
        prune(Checkpoint(tmp_path / "model"), case.recipe(), tmp_path / "out", quiet, quiet)
    assert not (tmp_path / "out" / "bundle.json").exists()
    prune(Checkpoint(tmp_path / "model", torch.float32), case.recipe(), tmp_path / "out32", quiet, quiet)


@pytest.mark.parametrize(
    ("ids", "what"),
    [
        (torch.full((1, 4), 64), "reach 64..64"),
        (torch.tensor([[-1, 3]]), "reach -1..3"),
        (token_ids(1, 65), "65 tokens"),
    ],
)
def test_tokens_the_model_cannot_take(ids: torch.Tensor, what: str, tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    assert what in refused(tmp_path / "model", recipe("wanda", ids=ids), tmp_path / "out")


def test_a_group_size_that_does_not_divide_names_the_layer(tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    chosen = recipe("none", bits=4, group_size=32)  # 32 inputs fit, 48 do not
    message = refused(tmp_path / "model", chosen, tmp_path / "out")
    assert message.startswith("model.layers.0.mlp.down_proj: `group_size=32` does not divide its 48 inputs")


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_dead_and_silent_inputs_pass_every_method(case: Case, tmp_path: Path) -> None:
    """Some inputs of o_proj and all of a down_proj are 0 whatever the tokens."""
    model = build("llama")
    model.model.layers[0].self_attn.v_proj.weight[:8] = 0
    model.model.layers[1].mlp.up_proj.weight[:] = 0
    model.save_pretrained(tmp_path / "model")
    warnings: list[str] = []
    bundle = prune(Checkpoint(tmp_path / "model"), case.recipe(), tmp_path / "out", quiet, warnings.append)
    bundle.validate()
    assert_exact(case, bundle)
    assert all("\n" not in warning for warning in warnings)
    if case.recipe().needs & {"energy", "hessian"}:
        assert any("layers.1.mlp.down_proj" in warning for warning in warnings)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
@pytest.mark.parametrize("changes", [{"intermediate_size": 50}, {"hidden_size": 36, "head_dim": 6}], ids=str)
def test_shapes_that_nothing_divides(case: Case, changes: dict, tmp_path: Path) -> None:
    if "group_size" in case.settings:
        case = Case(case.method, case.exact, {k: v for k, v in case.settings.items() if k != "group_size"})
    save("llama", tmp_path / "model", **changes)
    bundle = prune(Checkpoint(tmp_path / "model"), case.recipe(), tmp_path / "out", quiet, quiet)
    assert_exact(case, bundle)


@pytest.mark.parametrize("method", ["sparsegpt", "none"])
def test_too_few_tokens_for_a_hessian_are_told(method: str, tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    warnings: list[str] = []
    chosen = recipe(method, ids=token_ids(2, 12), bits=4, quantizer="gptq")
    prune(Checkpoint(tmp_path / "model"), chosen, tmp_path / "out", quiet, warnings.append)
    found = [warning for warning in warnings if "24 calibration tokens for" in warning]
    assert any(
        warning.startswith("model.layers.0.mlp.down_proj: 24 calibration tokens for 48 inputs") for warning in found
    )
    assert all("more `samples`" in warning for warning in found)


@pytest.mark.parametrize(("sparsity", "pruned"), [(0.5, 16), (0.25, 8), (0.75, 24)])
def test_dead_inputs_go_first(sparsity: float, pruned: int, tmp_path: Path) -> None:
    """The first kv head gives zeros, so inputs 0..15 of o_proj (query heads 0 and 1) are dead."""
    model = build("llama")
    model.model.layers[0].self_attn.v_proj.weight[:8] = 0
    model.save_pretrained(tmp_path / "model")
    bundle = prune(Checkpoint(tmp_path / "model"), recipe("wanda", sparsity), tmp_path / "out", quiet, quiet)
    keep = bundle["model.layers.0.self_attn.o_proj"].to_dense()
    assert not keep[:, : min(pruned, 16)].any()  # of equal scores the first go
    assert keep[:, pruned:16].all()
    assert ((~keep).sum(axis=1) == pruned).all()


def magnitude_keep(weight: torch.Tensor, pruned: int) -> torch.Tensor:
    keep = torch.ones(weight.shape, dtype=torch.bool)
    return keep.scatter_(1, weight.abs().argsort(dim=1, stable=True)[:, :pruned], False)


def test_inputs_that_are_all_dead_are_scored_by_magnitude(tmp_path: Path) -> None:
    model, warnings = build("llama"), []
    model.model.layers[0].mlp.up_proj.weight[:] = 0
    model.save_pretrained(tmp_path / "model")
    bundle = prune(Checkpoint(tmp_path / "model"), recipe("wanda"), tmp_path / "out", quiet, warnings.append)
    keep = torch.from_numpy(bundle["model.layers.0.mlp.down_proj"].to_dense())
    assert torch.equal(keep, magnitude_keep(model.model.layers[0].mlp.down_proj.weight, 24))
    assert any("layers.0.mlp.down_proj" in warning and "magnitude" in warning for warning in warnings)


def test_an_expert_no_token_reaches_is_scored_by_magnitude(tmp_path: Path) -> None:
    """Router rows v, -v, u, -u, 0: two are positive for any token, so the last expert is never among the top two."""
    model, warnings = build("qwen3_moe", num_experts=5), []
    router = model.model.layers[1].mlp.gate.weight
    router[1], router[3], router[4] = -router[0], -router[2], 0
    model.save_pretrained(tmp_path / "model")
    bundle = prune(Checkpoint(tmp_path / "model"), recipe("wanda"), tmp_path / "out", quiet, warnings.append)
    experts, path = model.model.layers[1].mlp.experts, "model.layers.1.mlp.experts"
    for name, weight in (("gate_up_proj", experts.gate_up_proj), ("down_proj", experts.down_proj)):
        by_magnitude = [
            torch.equal(
                torch.from_numpy(bundle[f"{path}.{name}.{e}"].to_dense()),
                magnitude_keep(weight[e], weight.shape[2] // 2),
            )
            for e in range(5)
        ]
        assert by_magnitude == [False] * 4 + [True]
        assert f"{path}.{name}.4: no calibration token was routed to it; scored by magnitude" in warnings
    assert not any(".experts." in warning and not warning.split(":")[0].endswith(".4") for warning in warnings)


def test_rows_that_lose_everything_are_told(tmp_path: Path) -> None:
    model, warnings = build("llama"), []
    model.model.layers[1].mlp.gate_proj.weight[:3] *= 1e-6
    model.save_pretrained(tmp_path / "model")
    prune(Checkpoint(tmp_path / "model"), recipe("magnitude", rule="layer"), tmp_path / "out", quiet, warnings.append)
    assert warnings == ["model.layers.1.mlp.gate_proj: 3 of 48 rows lost every weight"]
