"""Configs that leave the number of experts at their family's defaults, completed. Needs transformers, where they are
asked for."""

from typing import Any

from checkpoints.catalog import in_catalog
from workloads.experts import experts_of


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """The config, with its family's defaults where it does not say how many experts see a token and the family has
    experts. A catalog's config is complete."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or experts_of(config, 0) is not None or in_catalog(config):
        return config
    full = _with_defaults(kind, config)
    return full if experts_of(full, 0) is not None else config


def _with_defaults(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    try:
        values = {key: value for key, value in config.items() if key not in ("model_type", "auto_map")}
        full: dict[str, Any] = CONFIG_MAPPING[kind](**values).to_dict()
    except Exception:  # whatever a foreign class finds wrong with these values: then they say nothing
        return {}
    return full
