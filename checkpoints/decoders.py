"""A decoder's dimensions from its config: of the families known by name without torch, of every other one from its
model on the meta device."""

import json
from functools import lru_cache
from typing import Any

from workloads.decoder.dimensions import Decoder
from workloads.decoder.read import knows, read_decoder
from workloads.errors import NotForThisModel
from workloads.files import canonical_json
from workloads.uses import USES


def decoder_of(config: dict[str, Any]) -> Decoder:
    """Raises UserError where blocks compute something whose FLOP are not known, and for what a config leaves open."""
    if USES in config:
        raise NotForThisModel(
            f"the masks are of a network ({config.get('family')}), which has no prefill and no decode; `simulate` has "
            "its layers"
        )
    if knows(config):
        try:
            text = canonical_json(config)
        except (TypeError, ValueError):  # of Python, with what JSON cannot say
            return read_decoder(config)
        return _known_decoder(text)
    from checkpoints.decoder_traits import skeleton_decoder  # torch and transformers

    return skeleton_decoder(config)


@lru_cache(maxsize=64)
def _known_decoder(config: str) -> Decoder:
    """Once, as what its blocks execute is kept with it."""
    return read_decoder(json.loads(config))
