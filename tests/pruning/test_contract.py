"""What holds for every method, quantizer and allocator on models of many kinds: see contract.py for the recipes."""

from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, parameter_name
from pruning.bundle_values import read_quantized, read_weight
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from pruning.saving.dense import save_pruned
from tests.pruning.contract import CASES, FEW, QUANTIZED, Case, assert_exact, masks_of
from tests.pruning.models import contents, load_whole, quiet, recipe, save, token_ids
from workloads.bundle import MaskBundle

FAMILIES = ["llama-tied", "qwen2", "gpt2", "opt-projected", "gemma2", "phi3", "mixtral", "gpt_oss", "falcon"]
WEIGHTS = [case for case in CASES if case.method == "sparsegpt" or "bits" in case.settings]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, case: Case, tmp_path: Path) -> None:
    """Fused and grouped attention, biases, transposed storage, post-norms, experts: exact counts everywhere."""
    save(family, tmp_path / "model", shard_size="30KB")
    bundle = prune(Checkpoint(tmp_path / "model"), case.recipe(), tmp_path / "out", quiet, quiet)
    bundle.validate()
    assert_exact(case, bundle)
    refs = [ref for block in all_refs(Checkpoint(tmp_path / "model")) for ref in block]
    assert [entry.name for entry in bundle.layers] == [ref.layer.name for ref in refs]


@pytest.mark.parametrize("case", WEIGHTS, ids=lambda case: case.name)
def test_what_the_bundle_holds_is_what_is_saved_and_evaluated(case: Case, llama: Path, tmp_path: Path) -> None:
    """Pruned entries exactly +0.0, everything outside the linears bit for bit the original, one perplexity for both ways."""
    bundle = prune(Checkpoint(llama), case.recipe(), tmp_path / "masks", quiet, quiet)
    save_pruned(llama, bundle, tmp_path / "saved", quiet)
    before, after = load_whole(llama), load_whole(tmp_path / "saved")
    inside = set()
    for ref in (ref for block in all_refs(Checkpoint(llama)) for ref in block):
        name = parameter_name(ref)
        inside.add(name)
        saved = ref.view(after.get_parameter(name).detach())
        keep = torch.from_numpy(bundle[ref.layer.name].to_dense())
        held = read_weight(bundle, ref.layer.name)
        assert held is not None
        assert torch.equal(saved, held)
        assert bool((saved[~keep].view(torch.int32) == 0).all())  # +0.0
    for name, parameter in before.named_parameters():
        if name not in inside:
            assert torch.equal(parameter, after.get_parameter(name)), name
    ids = token_ids(4, 12, seed=5)
    with_bundle = perplexity(Checkpoint(llama), ids, bundle, quiet)
    assert with_bundle == perplexity(Checkpoint(tmp_path / "saved"), ids, None, quiet)
    assert with_bundle != perplexity(Checkpoint(llama), ids, None, quiet)


@pytest.mark.parametrize("case", QUANTIZED, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_quantized_layers_say_their_bits_and_stay_on_their_grids(
    case: Case, dtype: torch.dtype, tmp_path: Path
) -> None:
    save("llama", tmp_path / "model", dtype)
    checkpoint = Checkpoint(tmp_path / "model", torch.float32)
    bundle = prune(checkpoint, case.recipe(), tmp_path / "out", quiet, quiet)
    for entry, mask in bundle:
        quantized = read_quantized(bundle, entry.name)
        assert quantized is not None
        assert entry.weight_bits == case.settings["bits"]
        assert entry.group_size == (case.settings.get("group_size") or entry.in_features)
        assert int(quantized.codes.max()) <= quantized.grid.top
        assert torch.equal(quantized.scale, quantized.scale.to(dtype).float())  # as a checkpoint of that type stores it
        keep = torch.from_numpy(mask.to_dense())
        assert bool((quantized.dequantize()[~keep] == 0).all())
        levels = (quantized.codes.int() - quantized.zero.repeat_interleave(entry.group_size, dim=1).int()).abs()
        assert int(levels.max()) <= quantized.grid.top


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_no_hook_or_stand_in_stays_and_memory_is_given_back(case: Case, llama: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(llama)
    prune(checkpoint, case.recipe(), tmp_path, quiet, quiet)
    for module in checkpoint.model.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
        assert "forward" not in vars(module)
    for block in checkpoint.blocks:
        for parameter in block.parameters():
            assert parameter.is_meta
            assert not parameter.requires_grad


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_the_same_masks_whether_the_files_hold_one_shard_or_many(case: Case, llama: Path, tmp_path: Path) -> None:
    save("llama", tmp_path / "many", shard_size="10KB")
    one = prune(Checkpoint(llama), case.recipe(), tmp_path / "one", quiet, quiet)
    many = prune(Checkpoint(tmp_path / "many"), case.recipe(), tmp_path / "out", quiet, quiet)
    assert {e.name: (e.sha256, e.values_sha256) for e in one.layers} == {
        e.name: (e.sha256, e.values_sha256) for e in many.layers
    }


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_the_same_masks_whether_blocks_are_streamed_or_stay_in_memory(
    case: Case, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that is loaded whole once, and gives nothing back."""
    streamed = prune(Checkpoint(llama), case.recipe(), tmp_path / "streamed", quiet, quiet)
    held = Checkpoint(llama)
    held.load_rest()
    for number in range(len(held.blocks)):
        held.load_block(number)
    monkeypatch.setattr(Checkpoint, "release", lambda self, module: None)
    monkeypatch.setattr(Checkpoint, "load_block", lambda self, number: self.blocks[number])
    if case.settings.get("rule") != "global":
        whole = prune(held, case.recipe(), tmp_path / "held", quiet, quiet)
        # Allocation and gradients look at the dense model first; nothing has changed it then.
        assert contents(tmp_path / "held") == contents(tmp_path / "streamed")
        assert whole.sha256 == streamed.sha256


def test_nothing_pruned_at_sparsity_zero(llama: Path, tmp_path: Path) -> None:
    for method in ("magnitude", "wanda", "gblm", "sparsegpt", "besa"):
        bundle = prune(Checkpoint(llama), recipe(method, 0.0), tmp_path / method, quiet, quiet)
        assert all(mask.all() for mask in masks_of(bundle).values())
        if method == "sparsegpt":
            for name in masks_of(bundle):
                weight = read_weight(bundle, name)
                assert weight is not None
                assert torch.equal(weight, load_whole(llama).get_parameter(f"{name}.weight"))


def test_quantizing_first_wastes_levels_on_what_is_pruned(llama: Path, tmp_path: Path) -> None:
    """Order quantize-first: the codes of the kept weights are those of the dense matrix; prune-first fits narrower ranges."""
    first, dense = (
        prune(Checkpoint(llama), chosen, tmp_path / name, quiet, quiet)
        for name, chosen in (
            ("first", recipe("wanda", 0.5, bits=4, sets=["quantizer.order=quantize-first"])),
            ("dense", recipe("none", bits=4)),
        )
    )
    for entry, mask in first:
        keep = torch.from_numpy(mask.to_dense())
        masked, whole = read_quantized(first, entry.name), read_quantized(dense, entry.name)
        assert masked is not None
        assert whole is not None
        assert torch.equal(masked.codes[keep], whole.codes[keep])
        assert torch.equal(masked.scale, whole.scale)


def test_joint_methods_do_not_gather_for_a_quantizer_they_replace() -> None:
    assert recipe("besa", bits=4).needs == recipe("besa").needs
    assert "hessian" in recipe("wanda", bits=4, quantizer="gptq").needs
    assert recipe("magnitude", bits=4).needs == frozenset()


def test_a_bundle_without_values_says_so(llama: Path, tmp_path: Path) -> None:
    prune(Checkpoint(llama), recipe("wanda"), tmp_path, quiet, quiet)
    bundle = MaskBundle.open(tmp_path)
    assert not bundle.changes_weights
    assert all(read_weight(bundle, entry.name) is None for entry in bundle.layers)


def test_gptq_after_a_mask_makes_up_for_the_mask_too(llama: Path, tmp_path: Path) -> None:
    """At 8 bits, where rounding costs next to nothing: the output error of the first block's matrices, against masking alone."""
    ids = token_ids(20, 12)
    bundle = prune(Checkpoint(llama), recipe("wanda", 0.5, ids=ids, bits=8, quantizer="gptq"), tmp_path, quiet, quiet)
    model, seen = load_whole(llama), {}
    names = [entry.name for entry in bundle.layers if entry.block == 0]
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, n=name: seen.update({n: args[0]}))
    model(input_ids=ids, use_cache=False)
    masked = made = 0.0
    for name in names:
        inputs, weight = seen[name].reshape(-1, seen[name].shape[-1]), model.get_submodule(name).weight
        keep = torch.from_numpy(bundle[name].to_dense())
        held = read_weight(bundle, name)
        assert held is not None
        masked += float(((weight * keep - weight) @ inputs.T).square().sum())
        made += float(((held - weight) @ inputs.T).square().sum())
    assert made < 0.9 * masked


def test_experts_that_few_tokens_reach_share_one_hessian(tmp_path: Path) -> None:
    """Their factor is that of the sum over all experts of the stack, whatever objects lived and died before."""
    from pruning.block_job import BlockJob
    from pruning.evidence.moments import InputMoments, InputWatch
    from pruning.forward.blockwise import BlockwiseModel
    from pruning.second_order.hessians import Factors
    from pruning.second_order.obs import factorise

    model = BlockwiseModel(Checkpoint(save("mixtral", tmp_path)))
    hidden, block, refs = model.embed(token_ids(3, 12)), model.checkpoint.load_block(0), model.refs(0)
    with InputWatch(block, refs, hessian=True) as watch:
        _, sums = watch.observe(lambda: model.run(0, hidden))
    warnings: list[str] = []
    job = BlockJob(
        0,
        block,
        refs,
        lambda x: x,
        {},
        {},
        lambda r, s: s > 0,
        warnings.append,
        lambda r: None,
        3,
        InputMoments(3, sums),
    )
    factors = Factors(job, 0.01, "")
    for ref in refs:
        if ref.expert is not None:
            stack = [r.layer.name for r in refs if (r.parameter, r.module_path) == (ref.parameter, ref.module_path)]
            pooled = sum(sums[name].hessian for name in stack if name in sums)
            torch.testing.assert_close(factors.of(ref)[0].upper, factorise(pooled, 0.01).upper)
    assert sum("the Hessian of all experts is used" in warning for warning in warnings) == 8
