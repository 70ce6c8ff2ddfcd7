"""Shape rules against torch's own tables, and every kernel's arithmetic against its reference, where a CPU can run
it."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS

from measurement import kernels as k
from measurement.problem import Problem, draw, follows_24, keep_of_four, pad_rows
from tests.measurement.stand_ins import FakeCuSparseLt
from workloads.errors import UserError
from workloads.patterns import kept_of_four

H100 = (9, 0)


def sparse_kernel(name: str) -> k.Kernel:
    table = {kernel.name: kernel for kernel in (k.CuSparseLt24, k.Int8Sparse24, k.Fp8Sparse24)}
    return table[name](FakeCuSparseLt()) if name in table else k.Cutlass24()


# (backend, dtype, rows and columns of the sparse matrix, rows the dense one is padded to) as PyTorch documents them
RULES = [
    ("cutlass24", torch.float16, 32, 64, 8),
    ("cutlass24", torch.bfloat16, 32, 64, 8),
    ("cusparselt24", torch.float16, 16, 16, 8),
    ("cusparselt24", torch.bfloat16, 16, 16, 8),
    ("int8-24", torch.int8, 32, 32, 16),
    ("fp8-24", torch.float8_e4m3fn, 32, 32, 16),
]


@pytest.mark.parametrize(("name", "dtype", "rows", "cols", "tokens"), RULES)
def test_shape_rules_are_those_of_torch(name, dtype, rows, cols, tokens):
    backend = SparseSemiStructuredTensorCUTLASS if name == "cutlass24" else SparseSemiStructuredTensorCUSPARSELT
    assert tuple(backend._DTYPE_SHAPE_CONSTRAINTS[dtype]) == (rows, cols, tokens, tokens)
    kernel = sparse_kernel(name)
    assert kernel.tokens == tokens
    spelled = "bf16" if dtype == torch.bfloat16 else "fp16"
    for r, c in itertools.product((rows, 2 * rows, rows - 8, rows + 8), (cols, 3 * cols, cols - 8, cols + 8)):
        fits = r % rows == 0 and c % cols == 0
        reason = kernel.refuses(Problem(r, c, 1, spelled), H100)
        assert (reason == "") == fits, (r, c, reason)
        if not fits:
            assert f"{r}x{c}" in reason
            assert str(rows) in reason


@pytest.mark.parametrize(("name", "rows", "cols"), [("int8", 8, 8), ("fp8", 16, 16), ("int4", 8, 128), ("dense", 1, 1)])
def test_shape_rules_of_kernels_without_a_mask(name, rows, cols):
    (kernel,) = k.find_kernels([name])
    assert kernel.refuses(Problem(rows, cols, 1, "bf16", "unstructured"), H100) == ""
    if rows > 1:
        assert "multiple" in kernel.refuses(Problem(rows + 1, cols, 1, "bf16"), H100)
        assert "multiple" in kernel.refuses(Problem(rows, cols + 4, 1, "bf16"), H100)


def test_cards_too_old_are_told():
    wide = Problem(256, 256, 16, "bf16")
    for name, needed in (("dense", (8, 0)), ("fp8", (8, 9)), ("int4", (8, 0)), ("int8", (7, 5)), ("cutlass24", (8, 0))):
        (kernel,) = k.find_kernels([name])
        assert kernel.refuses(wide, needed) == ""
        assert "compute capability" in kernel.refuses(wide, (needed[0], needed[1] - 1))
    assert "this GPU has 8.0" in sparse_kernel("fp8-24").refuses(wide, (8, 0))


def test_int4_wants_bf16():
    assert "`dtype` bf16" in k.Int4().refuses(Problem(256, 256, 1, "fp16"), H100)


@pytest.mark.parametrize("name", ["cutlass24", "cusparselt24", "int8-24", "fp8-24"])
def test_masks_that_are_not_24(name):
    kernel = sparse_kernel(name)
    assert "no kernel faster than its dense one" in kernel.refuses(Problem(256, 256, 1, "fp16", "unstructured"), H100)
    assert "4:8" in kernel.refuses(Problem(256, 256, 1, "fp16", "4:8"), H100)
    for pattern in ("2:4", "1:4", "1:2"):
        assert kernel.refuses(Problem(256, 256, 1, "fp16", pattern), H100) == ""


def test_this_torch_has_no_cusparselt_and_says_so():
    if torch.backends.cusparselt.is_available():
        pytest.skip("this torch was built with cuSPARSELt")
    assert "without cuSPARSELt" in k.CuSparseLt24().refuses(Problem(256, 256, 1, "fp16"), H100)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["dense", "int8", "fp8", "int4", "cusparselt24", "int8-24", "fp8-24"])
@pytest.mark.parametrize("tokens", [1, 5, 16, 40])
def test_kernels_meet_their_reference(name, dtype, tokens):
    kernel = sparse_kernel(name) if name.endswith("24") else k.find_kernels([name])[0]
    problem = Problem(96, 256, tokens, dtype)
    if kernel.refuses(problem, H100):
        assert (name, dtype) == ("int4", "fp16")
        return
    prepared = kernel.prepare(problem, draw(problem, "cpu"))
    calls = [prepared.call, *(call for _, call in prepared.alternatives)]
    for call in calls:
        assert k.reference_error(prepared, call()) <= prepared.tolerance
    assert prepared.inputs.shape[0] >= tokens
    assert ("padded" in prepared.variant) == (prepared.inputs.shape[0] != tokens)
    if kernel.sparse:
        assert follows_24(prepared.weight.float())
    # operands are what was drawn, but for rounding: a kernel that multiplies something else would prove nothing
    drawn = draw(problem, "cpu")
    weight = drawn.pruned if kernel.sparse else drawn.weight
    scale = 32.0 if name.startswith("int8") else 1.0
    off = (prepared.weight.float() / scale - weight).abs().max()
    assert off < {"int4": 0.35, "int8": 1.0, "int8-24": 1.0, "fp8": 0.26, "fp8-24": 0.26}.get(name, 0.02)


def test_int8_on_the_gpu_needs_more_than_16_tokens():
    for tokens, rows in ((1, 32), (16, 32), (17, 17), (100, 100)):
        problem = Problem(32, 32, tokens, "fp16")
        assert k.Int8().prepare(problem, draw(problem, "cpu")).inputs.shape[0] == rows


@pytest.mark.parametrize("fault", ["transposed", "nan"])
def test_a_wrong_result_is_found(fault):
    problem = Problem(64, 64, 64, "fp16")
    kernel = k.CuSparseLt24(FakeCuSparseLt(fault))
    prepared = kernel.prepare(problem, draw(problem, "cpu"))
    error = k.reference_error(prepared, prepared.call())
    assert error > 0.5


def test_one_wrong_element_is_found():
    problem = Problem(64, 64, 300, "fp16")
    prepared = k.Dense().prepare(problem, draw(problem, "cpu"))
    output = prepared.call().clone()
    output[-1, 3] += 2.0
    assert k.reference_error(prepared, output) > prepared.tolerance
    assert k.reference_error(prepared, output[:-1]) == float("inf")


def test_the_reference_of_int8_is_exact():
    problem = Problem(32, 4096, 32, "fp16")
    prepared = k.Int8().prepare(problem, draw(problem, "cpu"))
    output = prepared.call().clone()
    assert k.reference_error(prepared, output) == 0
    output[0, 0] += 1
    assert k.reference_error(prepared, output) > 0


def test_int4_codes_stand_for_the_weights_they_are_multiplied_as():
    """The slow twin: every weight from its code, one by one, as the kernel's documentation words it."""
    weight = torch.randn(8, 256, generator=torch.Generator().manual_seed(1))
    codes, both, stood_for = k.quantize_int4(weight, 128)
    assert both.shape == (2, 8, 2)
    assert codes.min() >= 0
    assert codes.max() <= 15
    for row, col in itertools.product(range(8), range(0, 256, 7)):
        scale, zero = both[col // 128, row].float()
        assert (codes[row, col] - 8) * scale + zero == stood_for[row, col]
        assert abs(stood_for[row, col] - weight[row, col]) <= scale  # half a step, and bf16 rounding of scale and zero


def test_unknown_kernel():
    with pytest.raises(UserError, match="did you mean 'cutlass24'"):
        k.find_kernels(["cutlas24"])


def test_names_are_those_of_the_command():
    from studies.measuring import USUAL

    KERNELS = USUAL["cuda"].kernels
    assert tuple(KERNELS.split(",")) == ("dense", "cusparselt24", "cutlass24", *k.NAMES[3:])
    assert set(KERNELS.split(",")) == set(k.NAMES)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2), st.integers(0, 99))
def test_pruning_keeps_the_largest_of_every_four(rows, groups, kept, seed):
    weight = torch.randn(rows, 4 * groups, generator=torch.Generator().manual_seed(seed))
    pruned = keep_of_four(weight, kept)
    for row, group in itertools.product(range(rows), range(groups)):
        piece = weight[row, 4 * group : 4 * group + 4].tolist()
        left = sorted(piece, key=abs, reverse=True)[:kept]
        assert pruned[row, 4 * group : 4 * group + 4].tolist() == [w if w in left else 0.0 for w in piece]
    assert follows_24(pruned)


def test_patterns():
    known = {
        "2:4": 2,
        "1:4": 1,
        "1:2": 2,
        "unstructured": None,
        "4:8": None,
        "3:4": None,
        "2:8": None,
        "0:4": None,
        "x:4": None,
    }
    assert {pattern: kept_of_four(pattern) for pattern in known} == known


def test_padding_adds_zeros_below():
    values = torch.ones(5, 3)
    padded = pad_rows(values, 8)
    assert padded.shape == (8, 3)
    assert padded.sum() == 15
    assert pad_rows(values, 5) is values
    assert pad_rows(values, 1, 32).shape == (32, 3)


def test_nothing_drawn_is_zero():
    operands = draw(Problem(64, 64, 8, "fp16"), "cpu")
    assert (operands.weight != 0).all()
    assert (operands.inputs != 0).all()
    assert (operands.pruned != 0).float().mean() == 0.5
