"""What holds for every method, quantizer and allocator on models of many kinds: see contract.py for the recipes."""

from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_quantized, read_weight
from pruning.methods import METHODS
from pruning.methods.trained.method import TrainedMethod
from pruning.run.driver import prune
from tests.pruning.contract import CASES, FEW, QUANTIZED, Case, masks_of
from tests.pruning.recipes import recipe
from tests.thinned import thinned
from validation.conformance import mask_laws, weight_laws
from validation.conformance.methods import check_method
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle

FAMILIES = ["llama-tied", "qwen2", "gpt2", "opt-projected", "gemma2", "phi3", "mixtral", "gpt_oss", "falcon"]
NEW = {"bits", "permute"}  # settings that give weights
WEIGHTS = [case for case in CASES if case.method in ("sparsegpt", "wanda-pp") or NEW & set(case.settings)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.mark.parametrize(("family", "case"), thinned(FAMILIES, FEW, every=3))
def test_families(family: str, case: Case) -> None:
    mask_laws.counts_are_exact(None, case.trial(family))


@each(WEIGHTS)
def test_what_the_bundle_holds_is_what_is_saved_and_evaluated(case: Case) -> None:
    weight_laws.saved_as_held(None, case.trial())


@pytest.mark.parametrize(("case", "dtype"), thinned(QUANTIZED, [torch.float32, torch.float16, torch.bfloat16], every=2))
def test_quantized_layers_say_their_bits_and_stay_on_their_grids(case: Case, dtype: torch.dtype) -> None:
    weight_laws.stay_on_their_grids(None, case.trial(dtype=dtype))


@each(FEW)
def test_no_hook_or_stand_in_stays_and_memory_is_given_back(case: Case) -> None:
    mask_laws.leaves_the_model_alone(None, case.trial())


@each(FEW)
def test_the_same_masks_whether_the_files_hold_one_shard_or_many(case: Case) -> None:
    mask_laws.same_from_shards(None, case.trial())


@each(FEW)
def test_the_same_masks_whether_blocks_are_streamed_or_stay_in_memory(case: Case) -> None:
    mask_laws.same_in_memory(None, case.trial())


@pytest.mark.parametrize("name", thinned(METHODS, every=3))
def test_the_shipped_check_finds_no_fault(name: str) -> None:
    found = list(check_method(name))
    assert [str(result) for result in found if result.failed] == []
    assert sum(result.status == "passed" for result in found) >= (8 if METHODS[name].prunes else 5)
    if issubclass(METHODS[name], TrainedMethod):
        assert {result.status for result in found} == {"passed"}


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
    """Order quantize-first: the codes of the kept weights are those of the dense matrix; prune-first fits narrower
    ranges."""
    first, dense = (
        prune(Checkpoint(llama), chosen, tmp_path / name, quiet, quiet)
        for name, chosen in (
            ("first", recipe("wanda", 0.5, bits=4, set={"quantizer.order": "quantize-first"})),
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
    """At 8 bits, where rounding costs next to nothing: the output error of the first block's matrices, against masking
    alone."""
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
