"""The weights a method made, to and from the tensors a bundle keeps (workloads/bundle.py, LayerEntry)."""

import numpy as np
import torch

from checkpoints.factored import Pair, product
from pruning.block_job import Decision
from pruning.parallel import one_thread_per_operation
from pruning.quantization_grid import QuantizationGrid, Quantized
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.factors import Factors

BIAS = "bias"
FACTORS = ("first", "second")


def to_values(decision: Decision, stored: torch.dtype) -> dict[str, np.ndarray]:
    """The tensors of one decision, {} if the checkpoint's weights stay; floats in the checkpoint's own type
    `stored`."""
    if decision.quantized is not None:
        return _of_quantized(decision.quantized)
    if decision.factors is not None:
        both = zip(FACTORS, decision.factors, strict=True)
        return {f"{name}-{kind_of(stored)}": _floats(factor, stored) for name, factor in both}
    return {} if decision.weight is None else {kind_of(stored): _floats(decision.weight, stored)}


def kind_of(stored: torch.dtype) -> str:
    return str(stored).removeprefix("torch.")


def factors_of(pair: Pair) -> Factors:
    """The sizes of two factors. Raises UserError where they do not fit together."""
    first, second = (tuple(factor.shape) for factor in pair)
    return Factors(first, second)  # type: ignore[arg-type]


def read_factors(masks: MaskBundle, name: str) -> Pair | None:
    """The factors that a bundle holds for a layer, float32; None of a layer that is no product. Raises UserError where
    they are not of the sizes that the bundle states."""
    sizes = masks.entry(name).factors
    if sizes is None:
        return None
    tensors = {kind.partition("-")[0]: array for kind, array in masks.values(name).items()}
    found = [_tensor(tensors[which]) for which in FACTORS if which in tensors]
    if [tuple(factor.shape) for factor in found] != [sizes.first, sizes.second]:
        raise UserError(f"{masks.folder}: {name}: its factors are not {sizes.words}; make the bundle again")
    return found[0], found[1]


def _floats(weight: torch.Tensor, stored: torch.dtype) -> np.ndarray:
    held = weight.to(stored).cpu().contiguous()
    return held.view(torch.uint16).numpy() if stored == torch.bfloat16 else held.numpy()


def _tensor(held: np.ndarray) -> torch.Tensor:
    """float32 of floats as a bundle keeps them."""
    weight = torch.from_numpy(held)
    return (weight.view(torch.bfloat16) if held.dtype == np.uint16 else weight).float()


def read_weight(masks: MaskBundle, name: str) -> torch.Tensor | None:
    """(out, in) float32 weights a bundle holds for a layer, pruned entries 0, or what its factors make; None where the
    checkpoint's stay."""
    pair = read_factors(masks, name)
    if pair is not None:
        with one_thread_per_operation():  # the same bits as when it was made
            return product(*pair)
    tensors = masks.values(name)
    tensors.pop(BIAS, None)
    if not tensors:
        return None
    if "codes" in tensors:
        return _quantized(masks, name, tensors).dequantize()
    (weight,) = tensors.values()
    return _tensor(weight)


def read_biases(masks: MaskBundle) -> dict[str, torch.Tensor]:
    """The biases that a bundle holds, float32, by the names of their layers."""
    names = [entry.name for entry in masks.layers if BIAS in masks.kinds(entry.name)]
    return {name: torch.from_numpy(masks.values(name)[BIAS]) for name in names}


def read_quantized(masks: MaskBundle, name: str) -> Quantized | None:
    """A layer's weights on their grid; None where it is not quantized. `grid.symmetric` is not kept: zero points say
    all."""
    tensors = masks.values(name)
    return _quantized(masks, name, tensors) if "codes" in tensors else None


def _of_quantized(quantized: Quantized) -> dict[str, np.ndarray]:
    codes = quantized.codes.cpu().numpy()
    tensors = {
        "codes": _pack(codes) if quantized.grid.bits <= 4 else codes,
        "scale": quantized.scale.cpu().numpy(),
        "zero": quantized.zero.cpu().numpy(),
    }
    if quantized.input_scale is not None:
        tensors["input_scale"] = quantized.input_scale.float().cpu().numpy()
    return tensors


def _quantized(masks: MaskBundle, name: str, tensors: dict[str, np.ndarray]) -> Quantized:
    entry = masks.entry(name)
    assert entry.weight_bits is not None
    assert entry.group_size is not None
    codes = _unpack(tensors["codes"], entry.in_features) if entry.weight_bits <= 4 else tensors["codes"]
    scaled = tensors.get("input_scale")
    return Quantized(
        QuantizationGrid(entry.weight_bits, entry.group_size),
        torch.from_numpy(codes),
        torch.from_numpy(tensors["scale"]),
        torch.from_numpy(tensors["zero"]),
        None if scaled is None else torch.from_numpy(scaled),
    )


def _pack(codes: np.ndarray) -> np.ndarray:
    """(rows, cols) codes of up to 4 bits -> (rows, ceil(cols / 2)) bytes, the lower half first."""
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return codes[:, 0::2] | codes[:, 1::2] << 4


def _unpack(octets: np.ndarray, cols: int) -> np.ndarray:
    codes = np.empty((len(octets), 2 * octets.shape[1]), np.uint8)
    codes[:, 0::2], codes[:, 1::2] = octets & 15, octets >> 4
    return np.ascontiguousarray(codes[:, :cols])
