"""What the heads of attention must be like."""

import numpy as np

from workloads.errors import UserError

KV_BITS = (16, 8)


def checked_heads(heads: np.ndarray, kv_heads: np.ndarray) -> None:
    """Raises UserError where kv_heads do not divide heads."""
    for i in np.flatnonzero(heads % kv_heads)[:1]:
        raise UserError(f"heads = {heads.flat[i]} is no multiple of kv_heads = {kv_heads.flat[i]}")


def checked_kv_bits(kv_bits: int) -> int:
    if kv_bits not in KV_BITS:
        raise UserError(f"kv_bits = {kv_bits}: keys and values have 16 or 8 bits")
    return kv_bits
