"""Calibration sequences that score no unit, for a method to judge its units by."""

import torch

from pruning.data.calibration import ids_sha256


def held_apart(ids: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(those that score, `count` held apart) of ids (samples, seq_len). Which ones is decided by the hashes of their
    tokens, so that the order of sequences changes nothing."""
    order = sorted(range(len(ids)), key=lambda n: (ids_sha256(ids[n]), n))
    return ids[sorted(order[count:])], ids[order[:count]]
