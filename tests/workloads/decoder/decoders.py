"""Decoders for tests: those of the catalog, and small ones that differ in one thing."""

from dataclasses import replace
from typing import Any

from checkpoints.catalog import catalog_config
from workloads.decoder.dimensions import Block, Decoder
from workloads.decoder.read import read_decoder

SMALL: dict[str, Any] = dict(
    model_type="llama", hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
    num_key_value_heads=2, vocab_size=100,
)  # fmt: skip


def catalog(name: str) -> Decoder:
    return read_decoder(catalog_config(name))


def small(**changes: Any) -> Decoder:
    """LLaMA with 8 heads of 8, 2 kv heads; or another family."""
    return read_decoder(SMALL | changes)


def with_block(decoder: Decoder, block: Block) -> Decoder:
    """All of its blocks are that one."""
    return replace(decoder, blocks=(block,) * len(decoder.blocks))
