"""Skeletons: buffers as in a model that transformers builds the ordinary way, and no memory that nobody wrote."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from checkpoints.skeleton import build_skeleton
from validation.conformance.tiny_models import FAMILIES, VOCAB
from workloads.errors import UserError


@pytest.mark.parametrize("family", ["falcon_h1", "gemma3", "gpt2", "phi3", "bloom", "gpt_oss", "mamba", "qwen2_5_vl"])
def test_buffers_are_those_of_an_ordinary_model(family: str) -> None:
    kind, settings = FAMILIES[family]
    config = AutoConfig.for_model(kind, vocab_size=VOCAB, **settings)
    ordinary = AutoModelForCausalLM.from_config(config) if kind != "qwen2_5_vl" else None
    if ordinary is None:
        from transformers import Qwen2_5_VLForConditionalGeneration

        ordinary = Qwen2_5_VLForConditionalGeneration(config)
    skeleton = build_skeleton(type(ordinary), config, torch.float32)
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    expected = dict(ordinary.named_buffers())
    found = dict(skeleton.named_buffers())
    assert found.keys() == expected.keys()
    for name, buffer in expected.items():
        assert torch.equal(found[name], buffer), name
    shapes = {name: (tuple(p.shape), p.dtype) for name, p in ordinary.named_parameters()}
    assert {name: (tuple(p.shape), p.dtype) for name, p in skeleton.named_parameters()} == shapes


def test_building_leaves_the_random_state_alone() -> None:
    config = LlamaConfig(vocab_size=VOCAB, **FAMILIES["llama"][1])
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    build_skeleton(LlamaForCausalLM, config, torch.float32)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_buffer_that_nobody_writes_is_refused(dtype: torch.dtype) -> None:
    class Careless(LlamaForCausalLM):
        def __init__(self, config: LlamaConfig):
            super().__init__(config)
            self.model.register_buffer("scale", torch.empty(4, dtype=dtype), persistent=False)

    config = LlamaConfig(vocab_size=VOCAB, **FAMILIES["llama"][1])
    with pytest.raises(UserError, match=r"Careless never computes its buffer model.scale \(4,\)"):
        build_skeleton(Careless, config, torch.float32)
    assert not nn.Linear(2, 2).weight.is_meta  # nothing of the building is left
