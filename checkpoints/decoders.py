"""A decoder's dimensions from its config: of the families known by name without torch, of every other one from its
model on the meta device."""

from typing import Any

from workloads.decoder.dimensions import Decoder
from workloads.decoder.read import knows, read_decoder


def decoder_of(config: dict[str, Any]) -> Decoder:
    """Raises UserError where blocks compute something whose FLOP are not known, and for what a config leaves open."""
    if knows(config):
        return read_decoder(config)
    from checkpoints.decoder_traits import skeleton_decoder  # torch and transformers

    return skeleton_decoder(config)
