"""What families of models are made of (docs/networks.md)."""

from pruning.families.family import ModelFamily, Quality
from pruning.families.network import NetworkFamily

__all__ = ["ModelFamily", "NetworkFamily", "Quality"]
