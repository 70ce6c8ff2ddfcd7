"""Quick float32 products: float32's own precision whatever the processor, and torch left as it was."""

import pytest
import torch

from pruning import float_products
from pruning.float_products import quick_products
from pruning.parallel import one_thread_per_operation

OPERANDS_IN_BFLOAT16 = 1e-3  # relative error of a product whose operands were rounded to bfloat16, at least


def error(inner: int) -> float:
    draw = torch.Generator().manual_seed(inner)
    left, right = torch.randn(96, inner, generator=draw), torch.randn(64, inner, generator=draw)
    made, wanted = torch.nn.functional.linear(left, right), left.double() @ right.double().T
    return float((made - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("inner", [7, 64, 576, 1536])
def test_products_keep_the_precision_of_float32(inner: int) -> None:
    with one_thread_per_operation():
        assert error(inner) < 1e-6
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=draw) for _ in range(2))
    rounded = (left.bfloat16().double() @ right.bfloat16().double() - left.double() @ right.double()).norm()
    assert rounded / (left.double() @ right.double()).norm() > OPERANDS_IN_BFLOAT16  # what the bound above would catch


def test_torch_is_left_as_it_was() -> None:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:
        pytest.skip("this torch has no such switch")
    before = matmul.fp32_precision
    with pytest.raises(ZeroDivisionError), quick_products(), quick_products():
        raise ZeroDivisionError
    assert matmul.fp32_precision == before
    matmul.fp32_precision = "ieee"  # what a user asked for stays
    try:
        with quick_products():
            assert matmul.fp32_precision == "ieee"
    finally:
        matmul.fp32_precision = before


def test_a_processor_that_rounds_operands_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(torch.backends.mkldnn, "matmul", None) is None:
        pytest.skip("this torch has no such switch")
    monkeypatch.setattr(float_products, "as_exact", lambda: False)
    with quick_products():
        assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_precision_of_less_than_float32_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(torch.backends.mkldnn, "matmul", None) is None:
        pytest.skip("this torch has no such switch")
    monkeypatch.setattr(float_products, "EXACT", 0.1)  # operands in bfloat16 are within it
    assert float_products.as_exact.__wrapped__()
    monkeypatch.setattr(float_products, "EXACT", 1e-9)  # no float32 product is
    assert not float_products.as_exact.__wrapped__()
