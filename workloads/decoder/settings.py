"""A model's config as plain settings: families call the same thing by different names, and leave out what is usual."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.errors import UserError

HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads")
FFN = ("ffn_hidden_size", "ffn_dim", "n_inner", "d_ff", "intermediate_size")
ACTIVATION = ("hidden_activation", "hidden_act", "activation_function", "activation")
POSITIONS = ("max_position_embeddings", "n_positions")
_TEXT = ("text_config", "language_config", "llm_config", "decoder")


@dataclass(frozen=True)
class Settings:
    """Of a decoder, from its config, whose text part it is where the model has towers; `usual` are the family's values
    for what it does not say."""

    values: Mapping[str, Any]
    usual: Mapping[str, Any]

    @property
    def family(self) -> str:
        return str(self.values.get("model_type", ""))

    def get(self, name: str) -> Any:
        value = self.values.get(name)
        return self.usual.get(name) if value is None else value

    def whole(self, names: tuple[str, ...], block: int = 0, default: int | None = None) -> int:
        """The first of `names` that is said, its value for `block` where there is one for each. Raises UserError for
        what is no whole number from 1, and where nothing is said and there is no default."""
        for name in names:
            value = self.get(name)
            if isinstance(value, list):
                value = value[block] if block < len(value) else None
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"config of {self.family!r}: {name} = {value!r} is no whole number from 1; correct it")
            return int(value)
        if default is None:
            raise UserError(f"config of {self.family!r}: it has no {names[0]}, so its operations cannot be counted")
        return default

    def maybe(self, name: str) -> int | None:
        """A whole number from 1; None for what is missing, null or 0. Raises UserError for anything else."""
        return self.whole((name,)) if self.get(name) not in (None, 0, False) else None

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.get(name)
        return default if value is None else bool(value)

    def share(self, *names: str) -> float:
        """The first of `names` that is said here or among rope_parameters, 1 if none is: how much of a head is
        turned."""
        rope = self.get("rope_parameters")
        for place in (self.values, rope if isinstance(rope, Mapping) else {}, self.usual):
            for name in names:
                if isinstance(value := place.get(name), int | float) and not isinstance(value, bool):
                    return float(value)
        return 1.0

    @property
    def activation(self) -> str:
        """silu, gelu or relu, as far as FLOP go."""
        said = next((str(value) for name in ACTIVATION if (value := self.get(name)) is not None), "silu")
        return next((kind for kind in ("gelu", "relu") if kind in said), "silu")


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the text decoder, of a model that has towers for images or sounds too."""
    for name in _TEXT:
        if isinstance(part := config.get(name), Mapping):
            return {"model_type": config.get("model_type"), **part}
    return config
