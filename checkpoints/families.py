"""Which class of transformers a config means, and what kind of model that is. Needs torch and transformers.

A causal language model is built as such, also where it has towers for images or sounds. Encoder-decoders and encoders
are built as the class that their config names under "architectures", else as transformers' usual one for them: never as
their decoder alone, and never as a causal model they are not.
"""

from dataclasses import dataclass
from enum import StrEnum

import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from workloads.errors import UserError


class Kind(StrEnum):
    """What a model does with a sequence; the value is how it is called in messages."""

    CAUSAL = "causal language model"
    ENCODER_DECODER = "encoder-decoder"
    ENCODER = "encoder"


TOWERS = (auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, auto.MODEL_FOR_MULTIMODAL_LM_MAPPING)
SEQUENCES = (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, *TOWERS)
ENCODERS = (
    auto.MODEL_FOR_MASKED_LM_MAPPING, auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, auto.MODEL_FOR_CTC_MAPPING,
    auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING, auto.MODEL_MAPPING,
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The class to build, and its kind."""

    model_class: type[PreTrainedModel]
    kind: Kind


def family_of(config: PreTrainedConfig) -> Family:
    """Raises UserError for a config that no model with blocks of linears is known for."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        found = named_class(config) or first_of(config, SEQUENCES) or first_of(config, (auto.MODEL_MAPPING,))
        if found is not None:
            return Family(found, Kind.ENCODER_DECODER)
    encodes = type(config) in auto.MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if not encodes:
        has_towers = any(key not in ("text_config", "decoder") for key in config.sub_configs)
        order = (
            (*TOWERS, auto.MODEL_FOR_CAUSAL_LM_MAPPING) if has_towers else (auto.MODEL_FOR_CAUSAL_LM_MAPPING, *TOWERS)
        )
        found = first_of(config, order)
        if found is not None:
            return Family(found, Kind.CAUSAL)
    found = named_class(config) or first_of(config, ENCODERS)
    if found is None:
        raise UserError(
            f"transformers {transformers.__version__} has no model to prune for model_type {kind!r}; give a language "
            "model, an encoder or an encoder-decoder"
        )
    return Family(found, Kind.ENCODER)


def named_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class of transformers that the config names and that takes such a config; None if there is none."""
    for name in getattr(config, "architectures", None) or ():
        found = getattr(transformers, str(name), None)
        if isinstance(found, type) and issubclass(found, PreTrainedModel) and found.config_class is type(config):
            return found
    return None


def first_of(config: PreTrainedConfig, mappings: tuple) -> type[PreTrainedModel] | None:
    for mapping in mappings:
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple) else found
    return None
