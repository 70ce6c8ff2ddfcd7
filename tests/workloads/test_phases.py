"""Phases: tokens, contexts, and the order of what they execute."""

import numpy as np
import pytest

from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations import Attention
from workloads.phase_operations import masked_operations
from workloads.phases import decode, prefill


@pytest.fixture
def bundle(tmp_path) -> MaskBundle:
    writer = BundleWriter(tmp_path / "masks", BundleHeader("m", "x"))
    for block in range(2):
        for role in ("q", "down"):
            mask = PackedMask.from_dense(np.eye(4, dtype=bool))
            writer.add(Layer(f"{block}.{role}", role, block, 4, 4), mask, "unstructured")
    return writer.finish()


def attention(block: int, queries: int, keys: int) -> Attention:
    return Attention(f"{block}.attention", "attention", block, 2, 1, queries, keys, lambda: np.ones((2, queries, keys)))


def test_tokens():
    assert (prefill(4, 100).tokens, prefill(4, 100).context) == (400, 100)
    assert (prefill(4, 100, past=28).tokens, prefill(4, 100, past=28).context) == (400, 128)
    assert (decode(4, 128).tokens, decode(4, 128).context) == (4, 128)


@pytest.mark.parametrize("context", [1, 2, 129])
def test_decoding_ends_where_prefill_does(context):
    """A prefill of one token behind all others is a decode step."""
    step, last = decode(3, context), prefill(3, 1, past=context - 1)
    assert (step.tokens, step.context) == (last.tokens, last.context)


def test_attention_stands_in_its_block(bundle):
    given = [attention(1, 7, 7), attention(0, 7, 7), attention(5, 7, 7)]
    names = [operation.name for operation in masked_operations(prefill(1, 7), bundle, given)]
    assert names == ["0.q", "0.down", "0.attention", "1.q", "1.down", "1.attention", "5.attention"]
    assert [operation.name for operation in masked_operations(decode(9, 7), bundle)] == [
        "0.q",
        "0.down",
        "1.q",
        "1.down",
    ]


def test_masks_of_another_size(bundle):
    with pytest.raises(UserError, match="mask is of 7 queries x 7 keys, the decode of 1 x 7"):
        list(masked_operations(decode(1, 7), bundle, [attention(0, 7, 7)]))
    assert len(list(masked_operations(decode(1, 7), bundle, [attention(0, 1, 7)]))) == 5


def test_impossible_phases():
    for phase in (lambda: prefill(0, 1), lambda: prefill(1, 0), lambda: decode(1, 0)):
        with pytest.raises(UserError, match="at least 1, 1 and 0"):
            phase()


@pytest.mark.parametrize("given", [{"tokens": "8"}, {"tokens": 8.0}, {"tokens": 8, "activation_density": "half"}])
def test_conditions_are_numbers(given):
    with pytest.raises(UserError, match=r"is a (whole )?number, not"):
        Conditions(**given)
