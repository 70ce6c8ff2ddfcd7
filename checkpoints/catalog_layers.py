"""The prunable matrices of a config. Those of the catalog's models are written down here, so that they need neither
torch nor transformers; any other model is built on the meta device by transformers."""

from typing import Any

from checkpoints.catalog import in_catalog
from workloads.layers import Layer
from workloads.roles import role_of


def linears_of(config: dict[str, Any]) -> list[Layer]:
    """Every prunable matrix of the model a config describes, in module order. Raises UserError as `discover_layers`."""
    if in_catalog(config):
        return catalog_layers(config)
    from checkpoints.discovery import discover_layers  # torch and transformers

    return discover_layers(config)


def catalog_layers(config: dict[str, Any]) -> list[Layer]:
    """Of a config of the catalog, whose families are OPT and the LLaMA-likes."""
    opt = config["model_type"] == "opt"
    shapes = _opt_shapes(config) if opt else _llama_shapes(config)
    stack = "model.decoder.layers" if opt else "model.layers"
    return [
        Layer(f"{stack}.{block}.{name}", role_of(name), block, out_features, in_features)
        for block in range(config["num_hidden_layers"])
        for name, (out_features, in_features) in shapes.items()
    ]


def _llama_shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """(out_features, in_features) of every matrix of a block."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    return {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }


def _opt_shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    hidden, ffn = config["hidden_size"], config["ffn_dim"]
    return {
        **{f"self_attn.{name}": (hidden, hidden) for name in ("k_proj", "v_proj", "q_proj", "out_proj")},
        "fc1": (ffn, hidden),
        "fc2": (hidden, ffn),
    }
