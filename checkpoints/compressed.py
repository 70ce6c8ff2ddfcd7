"""Weights that compressed-tensors packed, as plain floats: "pack-quantized", "sparse-bitmask" and "sparse-24-bitmask".

What a file holds is told by its tensors, not by config.json: a `quantization_config` or `sparsity_config` left beside
plain floats says nothing. A matrix X of shape (rows, cols) lies under

    pack-quantized   X.weight_packed int32 (rows, ceil(cols * bits / 32)): codes, bit after bit, lowest first
                     X.weight_scale (rows, groups);  X.weight_shape (2,);  X.weight_g_idx (cols,), the group of every
                     input, where groups are no runs;  X.weight_zero_point, packed along the rows, of asymmetric grids
    sparse-bitmask   X.bitmask uint8 (rows, ceil(cols / 8)): bit j of byte b = column 8 b + j, 1 = kept
                     X.compressed: the kept values, row after row (also of sparse-24-bitmask);  X.shape (2,)

and comes back under X.weight: (code - zero) * scale in the type of the scale, as transformers and the library compute
it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoints.weights import Weights
from workloads.errors import UserError

PACKED, BITMASK = "weight_packed", "bitmask"
PARTS = {
    PACKED: ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"),
    BITMASK: ("bitmask", "compressed", "shape", "row_offsets"),
}
# Last parts of a key that only formats have which are not read here, and what they are called.
REFUSED = {
    "qweight": "GPTQ or AWQ", "qzeros": "GPTQ or AWQ", "weight_scale_inv": "fp8 with block scales",
    "absmax": "bitsandbytes", "SCB": "bitsandbytes int8", "W_q": "HQQ", "meta": "marlin-24",
    "scale_packed": "marlin-24", "weight_global_scale": "nvfp4",
    "weight_scale": "compressed-tensors, one number a weight", "weight_scales": "EETQ", "qdata": "torchao",
}  # fmt: skip


def decompressed(weights: Weights, where: Path, quantization: Any = None) -> Weights:
    """`weights` with packed matrices as floats; itself where nothing is packed.

    quantization: config.json's entry, asked for the bits only where shapes leave them open. Raises UserError for
    weights that are quantized in another format.
    """
    packed: dict[str, str] = {}  # X -> which format
    for key in weights.names():
        stem, _, leaf = key.rpartition(".")
        if leaf in PARTS:
            packed[stem] = leaf
    parts = {f"{stem}.{part}" for stem, kind in packed.items() for part in PARTS[kind]}
    rest = [key for key in weights.names() if key not in parts]
    check_plain(weights, rest, where)
    if not packed:
        return weights
    return Decompressed(weights, rest, packed, where, _bits_of(quantization))


def check_plain(weights: Weights, keys: Iterable[str], where: Path) -> None:
    """Raises UserError unless the tensors of `keys` are what they seem to be: floats, and not the codes of
    something."""
    for key in keys:
        leaf = key.rpartition(".")[2].partition(":")[0]
        form = REFUSED.get(leaf) or ("bitsandbytes" if ".quant_state." in key else None)
        if (
            form is None
            and leaf in ("weight", "gate_up_proj_blocks", "down_proj_blocks")
            and len(weights.shape(key)) >= 2
        ):
            dtype = weights.dtype(key)
            form = None if dtype.is_floating_point else f"{str(dtype).removeprefix('torch.')} numbers"
        if form is not None:
            raise UserError(
                f"{where}: its weights are quantized ({form}: {key}), in a form that is not read; give the checkpoint "
                "they were quantized from"
            )


@dataclass
class _Later:
    """A tensor that transformers' loader makes by `[...]`."""

    make: Callable[[], torch.Tensor]

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self.make()[index]


class Decompressed:
    """See `Weights`."""

    def __init__(self, inner: Weights, rest: list[str], packed: dict[str, str], where: Path, bits: set[int]):
        self._inner, self._where, self._bits = inner, where, bits
        self._have = set(inner.names())
        self._rest = dict.fromkeys(rest)
        self._packed = {
            stem if stem.endswith(".weight") else f"{stem}.weight": (stem, kind) for stem, kind in packed.items()
        }
        for stem, kind in packed.items():
            for part in PARTS[kind][:3]:
                if f"{stem}.{part}" not in self._have:
                    raise UserError(f"{where}: the checkpoint holds {stem}.{kind}, but lacks {stem}.{part}")

    def names(self) -> Iterable[str]:
        return [*self._rest, *self._packed]

    def shape(self, key: str) -> tuple[int, ...]:
        if key in self._rest:
            return self._inner.shape(key)
        stem, kind = self._packed[key]
        return self._read_shape(stem, kind)

    def dtype(self, key: str) -> torch.dtype:
        if key in self._rest:
            return self._inner.dtype(key)
        stem, kind = self._packed[key]
        return self._inner.dtype(f"{stem}.{'weight_scale' if kind == PACKED else 'compressed'}")

    def slices(self, keys: Iterable[str]) -> dict[str, Any]:
        keys = list(keys)
        plain = self._inner.slices([key for key in keys if key in self._rest])
        return {key: plain[key] if key in plain else _Later(partial(self._make, key)) for key in keys}

    def tensors(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        keys = list(keys)
        plain = self._inner.tensors([key for key in keys if key in self._rest])
        return {key: plain[key] if key in plain else self._make(key) for key in keys}

    def grid(self, key: str) -> tuple[int, int] | None:
        """(bits, inputs that share a scale) of a matrix that is stored in codes; None of others, and where groups are
        no runs."""
        stem, kind = self._packed.get(key, ("", ""))
        if kind != PACKED or f"{stem}.weight_g_idx" in self._have:
            return None
        rows, cols = shape = self._read_shape(stem, kind)
        try:
            bits = find_bits(torch.Size(self._inner.shape(f"{stem}.weight_packed")), shape, self._bits)
        except ValueError as error:
            raise UserError(f"{self._where}: {stem}.{kind}: {error}; save the checkpoint again") from None
        scales = int(np.prod(self._inner.shape(f"{stem}.weight_scale")))
        return bits, cols if scales < rows else cols * rows // scales

    def _make(self, key: str) -> torch.Tensor:
        stem, kind = self._packed[key]
        names = {part: f"{stem}.{part}" for part in PARTS[kind] if f"{stem}.{part}" in self._have}
        found = self._inner.tensors(names.values())
        parts = {part: found[name] for part, name in names.items()}
        shape = self._read_shape(stem, kind)
        try:
            if kind == BITMASK:
                return from_bitmask(parts["bitmask"], parts["compressed"], shape)
            bits = find_bits(parts["weight_packed"].shape, shape, self._bits)
            return from_codes(
                parts["weight_packed"], parts["weight_scale"], shape, bits, parts.get("weight_zero_point"),
                parts.get("weight_g_idx"),
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f"{self._where}: {stem}.{kind}: {error}; save the checkpoint again") from None

    def _read_shape(self, stem: str, kind: str) -> tuple[int, ...]:
        name = f"{stem}.{'weight_shape' if kind == PACKED else 'shape'}"
        shape = tuple(int(size) for size in self._inner.tensors([name])[name].reshape(-1).tolist())
        if len(shape) != 2 or min(shape) < 1:
            raise UserError(f"{self._where}: {name} is {shape}; a matrix has two sizes of at least 1")
        return shape


def from_bitmask(bitmask: torch.Tensor, values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Dense (rows, cols) of the kept values. Raises ValueError if the parts do not fit together."""
    rows, cols = shape
    if tuple(bitmask.shape) != (rows, -(-cols // 8)) or bitmask.dtype != torch.uint8:
        raise ValueError(f"a bitmask of shape {tuple(bitmask.shape)} is not one of ({rows}, {cols}) weights")
    if not values.dtype.is_floating_point:
        raise ValueError(f"its values are {str(values.dtype).removeprefix('torch.')}, not floats")
    kept = torch.from_numpy(np.unpackbits(bitmask.numpy(), axis=1, count=cols, bitorder="little").astype(bool))
    if int(kept.sum()) != values.numel():
        raise ValueError(f"the bitmask keeps {int(kept.sum())} weights, {values.numel()} are stored")
    dense = torch.zeros(rows, cols, dtype=values.dtype)
    dense[kept] = values.reshape(-1)
    return dense


def from_codes(
    packed: torch.Tensor, scale: torch.Tensor, shape: tuple[int, ...], bits: int, zero: torch.Tensor | None,
    group_of: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Dense (rows, cols) in the type of `scale`: (code - zero) * scale. Raises ValueError if the parts do not fit
    together."""
    rows, cols = shape
    codes = unpack(packed, bits, cols)
    scale = scale.reshape(1, 1) if scale.numel() == 1 else scale.reshape(rows, -1)
    groups = scale.shape[1]
    if group_of is None and cols % groups and groups != 1:
        raise ValueError(f"{groups} scales a row do not divide {cols} inputs")
    column_group = torch.arange(cols) // (cols // groups) if group_of is None else group_of.long()
    if column_group.numel() != cols or int(column_group.min()) < 0 or int(column_group.max()) >= groups:
        raise ValueError(f"its groups do not fit {cols} inputs and {groups} scales")
    number = codes.to(scale.dtype)
    if zero is not None:
        if zero.dtype == torch.int32:
            zero = unpack(zero.T.contiguous(), bits, scale.shape[0]).T
        number -= zero.reshape(scale.shape).to(scale.dtype)[:, column_group]
    return number * scale[:, column_group]


def unpack(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Signed codes int8 (rows, count) of int32 words (rows, ceil(count * bits / 32)): a code is stored + 2^(bits-1)."""
    rows = words.shape[0]
    if words.dtype != torch.int32 or words.ndim != 2 or words.shape[1] != -(-count * bits // 32):
        raise ValueError(f"{tuple(words.shape)} words of 32 bits do not hold {count} codes of {bits} bits a row")
    little = words.numpy().astype("<i4", copy=False)
    stream = np.unpackbits(little.view(np.uint8).reshape(rows, -1), axis=1, count=count * bits, bitorder="little")
    codes = np.zeros((rows, count), np.int16)
    for bit in range(bits):
        codes |= stream[:, bit::bits].astype(np.int16) << bit
    return torch.from_numpy((codes - (1 << (bits - 1))).astype(np.int8))


def find_bits(packed: torch.Size, shape: tuple[int, ...], stated: set[int]) -> int:
    """Bits a code: what the shapes allow, and the config states where they allow several. Raises ValueError if none."""
    fit = [bits for bits in range(1, 9) if -(-shape[1] * bits // 32) == packed[-1]]
    told = [bits for bits in fit if bits in stated]
    if len(told) == 1:
        return told[0]
    if len(fit) != 1:
        raise ValueError(
            f"{packed[-1]} words for {shape[1]} inputs leave the bits open ({fit}), and config.json does not say them"
        )
    return fit[0]


def _bits_of(quantization: Any) -> set[int]:
    """The bits that config.json's quantization_config names."""
    groups = quantization.get("config_groups") if isinstance(quantization, dict) else None
    schemes = groups.values() if isinstance(groups, dict) else []
    weights = [scheme.get("weights") for scheme in schemes if isinstance(scheme, dict)]
    return {args["num_bits"] for args in weights if isinstance(args, dict) and isinstance(args.get("num_bits"), int)}
