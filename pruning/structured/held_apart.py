"""Calibration samples that score no unit, for a method to judge its units by."""

import torch

from pruning.data.calibration import arrays_sha256, ids_sha256


def held_apart(samples: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(those that score, `count` held apart) of samples (samples, ...), of texts (samples, seq_len). Which ones is
    decided by the hashes of what they hold, so that their order changes nothing."""
    of = (lambda own: arrays_sha256({"": own})) if samples.is_floating_point() else ids_sha256
    order = sorted(range(len(samples)), key=lambda n: (of(samples[n]), n))
    return samples[sorted(order[count:])], samples[order[:count]]
