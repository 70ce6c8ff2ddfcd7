"""Input energies against plain sums over a whole model's own activations, in float64."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from pruning import parallel
from pruning.evidence.moments import COLUMNS, InputWatch, column_sums, gram, merge
from pruning.forward.blockwise import BlockwiseModel
from validation.conformance.tiny_models import build, load_whole, save, token_ids


@torch.no_grad()
def streamed_energies(folder: Path, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Energies of every matrix of the unpruned model."""
    model, energies = BlockwiseModel(Checkpoint(folder)), {}
    hidden = [model.embed(batch) for batch in batches]
    for number in range(len(model.blocks)):
        block, total = model.checkpoint.load_block(number), {}
        with InputWatch(block, model.refs(number)) as watch:
            seen = [watch.observe(lambda states=states, n=number: model.run(n, states)) for states in hidden]
        assert not any(child._forward_pre_hooks for child in block.modules())
        hidden = [output for output, _ in seen]
        for _, sums in seen:
            merge(total, sums)
        energies |= {name: moments.energy for name, moments in total.items()}
    return energies


@torch.no_grad()
def plain_energies(folder: Path, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Hooks on the linears of the whole model, all tokens at once, float64 sums."""
    whole, sums = load_whole(folder), {}
    path, blocks = find_blocks(whole)

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple[torch.Tensor]) -> None:
            sums[name] = args[0].double().square().reshape(-1, args[0].shape[-1]).sum(dim=0)

        module.register_forward_pre_hook(hook)

    for name, module in blocks.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            watch(f"{path}.{name}", module)
    whole(input_ids=ids, use_cache=False)
    return sums


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, energy in expected.items():
        assert found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], energy, rtol=1e-6, atol=0, msg=name)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt-projected", "falcon", "phi3", "gemma3"])
@pytest.mark.parametrize("split", [1, 2, 5])
def test_linears_and_conv1d_in_any_batch_split(family: str, split: int, tmp_path: Path) -> None:
    save(family, tmp_path)
    ids = token_ids(5, 12)
    expected = plain_energies(tmp_path, ids)
    found = streamed_energies(tmp_path, list(ids.split(split)))
    assert_same(found, {name: energy for name, energy in expected.items() if name in found})
    path, blocks = find_blocks(build(family))
    refs = [ref for n, block in enumerate(blocks) for ref in block_linears(block, f"{path}.{n}", n)]
    assert found.keys() == {ref.layer.name for ref in refs}


@torch.no_grad()
def routed_energies(folder: Path, ids: torch.Tensor, activation) -> dict[str, torch.Tensor]:
    """Experts of a mixture, by hand: softmax, top k, and each token through each of its experts alone."""
    whole, inputs, sums = load_whole(folder), {}, {}
    for number, block in enumerate(whole.model.layers):
        block.mlp.register_forward_pre_hook(lambda _, args, n=number: inputs.update({n: args[0].reshape(-1, 32)}))
    whole(input_ids=ids, use_cache=False)
    for number, block in enumerate(whole.model.layers):
        experts, name = block.mlp.experts, f"model.layers.{number}.mlp.experts"
        for token in inputs[number]:
            for expert in (block.mlp.gate.weight @ token).softmax(0).topk(2).indices.tolist():
                gate, up = (experts.gate_up_proj[expert] @ token).chunk(2)
                for matrix, x in (("gate_up_proj", token), ("down_proj", activation(gate) * up)):
                    key = f"{name}.{matrix}.{expert}"
                    sums[key] = sums.get(key, 0) + x.double().square()
    return sums


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("split", [1, 3])
def test_experts_see_the_tokens_routed_to_them(family: str, split: int, tmp_path: Path) -> None:
    save(family, tmp_path)
    ids = token_ids(4, 12)
    expected = routed_energies(tmp_path, ids, nn.functional.silu)
    found = streamed_energies(tmp_path, list(ids.split(split)))
    assert len(expected) == 2 * 2 * 4  # two blocks, two matrices, every expert reached
    experts = {name: energy for name, energy in found.items() if ".experts." in name}
    assert experts.keys() == expected.keys()
    for name, energy in expected.items():  # the sums are formed from float32 activations of another order of addition
        torch.testing.assert_close(experts[name], energy, rtol=1e-5, atol=1e-9, msg=name)


def stacked_energies(
    family: str, folder: Path, ids: torch.Tensor
) -> tuple[dict[str, torch.Tensor], nn.Module, torch.Tensor]:
    """Energies of the whole unpruned model, its last expert module, and that module's input."""
    save(family, folder)
    whole, seen = load_whole(folder), []
    experts = [module for name, module in whole.named_modules() if name.endswith(".experts")][-1]
    experts.register_forward_pre_hook(lambda _, args: seen.append(args))
    whole(input_ids=ids, use_cache=False)
    return streamed_energies(folder, list(ids.split(2))), experts, seen[0]


@torch.no_grad()
def test_transposed_experts_multiplied_one_by_one(tmp_path: Path) -> None:
    """gpt_oss: x @ W with W (in, out)."""
    found, experts, (states, chosen, *_) = stacked_energies("gpt_oss", tmp_path, token_ids(4, 12))
    for expert in range(4):
        tokens = states.reshape(-1, 32)[(chosen.reshape(-1, 2) == expert).any(dim=1)]
        inner = experts._apply_gate(tokens @ experts.gate_up_proj[expert] + experts.gate_up_proj_bias[expert])
        for matrix, x in (("gate_up_proj", tokens), ("down_proj", inner)):
            energy = found[f"model.layers.1.mlp.experts.{matrix}.{expert}"]
            torch.testing.assert_close(energy, x.double().square().sum(dim=0), rtol=1e-5, atol=1e-9)


@torch.no_grad()
def test_transposed_experts_multiplied_all_at_once(tmp_path: Path) -> None:
    """llama4: one bmm over all experts; tokens of other experts come in as zeros."""
    found, experts, (states,) = stacked_energies("llama4_text", tmp_path, token_ids(4, 12))
    for expert, tokens in enumerate(states.reshape(4, -1, 32)):
        assert 0 < int(tokens.any(dim=1).sum()) < 48
        gate, up = (tokens @ experts.gate_up_proj[expert]).chunk(2, dim=-1)
        for matrix, x in (("gate_up_proj", tokens), ("down_proj", up * nn.functional.silu(gate))):
            energy = found[f"model.layers.1.feed_forward.experts.{matrix}.{expert}"]
            torch.testing.assert_close(energy, x.double().square().sum(dim=0), rtol=1e-5, atol=1e-9)


def test_matrices_with_the_same_input_share_the_computation(tmp_path: Path) -> None:
    save("llama", tmp_path)
    model, ids = BlockwiseModel(Checkpoint(tmp_path)), token_ids(2, 12)
    hidden, block = model.embed(ids), model.checkpoint.load_block(0)
    with InputWatch(block, model.refs(0)) as watch:
        _, sums = watch.observe(lambda: model.run(0, hidden))
    at = {name.rpartition(".")[2]: sum_.energy.data_ptr() for name, sum_ in sums.items()}
    assert at["q_proj"] == at["k_proj"] == at["v_proj"]
    assert at["gate_proj"] == at["up_proj"]
    assert len(set(at.values())) == 4  # qkv, o, gate and up, down


@pytest.mark.parametrize("width", [5, 192, 500])
def test_the_mirrored_product_is_the_product(width: int) -> None:
    inputs = torch.randn(64, width, generator=torch.Generator().manual_seed(0))
    made = gram(inputs)
    torch.testing.assert_close(made, inputs.T @ inputs, rtol=1e-5, atol=1e-4)
    assert width <= 192 or torch.equal(made[192:, :192], made[:192, 192:].T)


@torch.no_grad()
def test_leaving_the_last_product_out_changes_no_sums(tmp_path: Path) -> None:
    model = BlockwiseModel(Checkpoint(save("llama", tmp_path)))
    hidden = model.embed(token_ids(3, 8))
    block = model.checkpoint.load_block(0)
    found = []
    for outputs in (True, False):
        with InputWatch(block, model.refs(0), hessian=True, outputs=outputs) as watch:
            found.append([watch.observe(lambda: model.run(0, hidden)) for _ in range(2)])
        assert not any("forward" in vars(child) for child in block.modules())
    (_, (output, whole)), (_, (shorter, left)) = found
    assert not torch.equal(output, shorter)  # it was left out the second time
    for name, moments in whole.items():
        assert torch.equal(moments.energy, left[name].energy)
        assert torch.equal(moments.hessian, left[name].hessian)
    assert left["model.layers.0.self_attn.q_proj"] is left["model.layers.0.self_attn.k_proj"]


@torch.no_grad()
def test_pieces_of_a_batch_give_what_the_batch_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, ids = save("llama", tmp_path), token_ids(5, 8)
    results = []
    for tokens in (4096, 2 * ids.shape[1]):
        monkeypatch.setitem(parallel.PIECE_TOKENS, "cpu", tokens)
        model = BlockwiseModel(Checkpoint(folder))
        hidden = model.embed(ids)
        block = model.checkpoint.load_block(0)
        with InputWatch(block, model.refs(0), hessian=True) as watch:
            results.append(watch.observe(lambda model=model, hidden=hidden: model.run(0, hidden)))
    (output, sums), (pieced, parts) = results
    torch.testing.assert_close(pieced, output)
    for name, moments in sums.items():
        assert parts[name].tokens == moments.tokens
        torch.testing.assert_close(parts[name].hessian, moments.hessian)
    assert parts["model.layers.0.self_attn.q_proj"] is parts["model.layers.0.self_attn.v_proj"]


@pytest.mark.parametrize("width", [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 3 * COLUMNS + 7])
@pytest.mark.parametrize("tokens", [1, 2, 333])
def test_sums_of_columns_do_not_depend_on_strips(tokens: int, width: int) -> None:
    """To the bit those of one sum over everything, of each column within rounding the exact one."""
    inputs = torch.randn(tokens, width, generator=torch.Generator().manual_seed(width)) * 100
    assert torch.equal(column_sums(inputs), inputs.sum(dim=0, dtype=torch.float64))
    assert torch.equal(column_sums(inputs, torch.square), inputs.square().sum(dim=0, dtype=torch.float64))
    exact = torch.tensor([math.fsum(column) for column in inputs.abs().T.tolist()], dtype=torch.float64)
    torch.testing.assert_close(column_sums(inputs, torch.abs), exact, rtol=1e-14, atol=0.0)
