"""What a bundle says of one layer (workloads/bundle.py)."""

from dataclasses import dataclass

from workloads.factors import Factors
from workloads.layers import Layer
from workloads.limits import MAX_FEATURES
from workloads.patterns import FACTORED


@dataclass(frozen=True)
class LayerEntry:
    """What bundle.json says of one layer. `weight_bits` is None where weights keep the checkpoint's float type;
    `group_size` is the number of inputs that share a scale where they do not. `pattern` is "unstructured", "N:M", or
    "dense" for a layer that was left alone: all of its weights are kept, and simulators run it as the unpruned layer;
    "smaller" where all weights of the rows and columns that are left are kept; "gone" in a block or sub-layer that was
    taken out, with the unpruned sizes and no mask; "factored" where it is a product of `factors`: `nnz` counts their
    weights, and it has no mask of its own. Sizes are those that are left, `unpruned_*` those before, 0: the same.

    `values` is the shard with the weights the method made, "" where they are the checkpoint's own under the mask. Kinds
    of tensors, in the shapes of the matrix: float32 or float16 (the weights), bfloat16 (their bits as uint16); or,
    quantized, codes (uint8, two a byte along the inputs up to 4 bits, the lower half first), scale (float32,
    (out_features, groups)), zero (uint8, likewise) and, if inputs were scaled, input_scale (float32, (in_features,)):
    weight = (code - zero) * scale / input_scale. Of factors: first-TYPE and second-TYPE, (blocks, outputs, inputs). And
    `bias` (float32, (out_features,)): what takes the place of the layer's bias, or is one where it had none."""

    name: str
    role: str
    block: int
    out_features: int
    in_features: int
    pattern: str
    nnz: int
    weight_bits: int | None
    sha256: str
    shard: str
    group_size: int | None = None
    values: str = ""
    values_sha256: str = ""
    checksum: str = ""  # of the mask's words (bits.count_and_checksum), hexadecimal; "" in older bundles
    unpruned_out_features: int = 0
    unpruned_in_features: int = 0
    factors: Factors | None = None

    @property
    def layer(self) -> Layer:
        return Layer(self.name, self.role, self.block, self.out_features, self.in_features)

    @property
    def unpruned(self) -> Layer:
        """Before anything was taken out of it."""
        rows, cols = self.unpruned_out_features or self.out_features, self.unpruned_in_features or self.in_features
        return Layer(self.name, self.role, self.block, rows, cols)

    @property
    def sparsity(self) -> float:
        """Of the unpruned matrix."""
        return 1 - self.nnz / self.unpruned.n_weights

    @property
    def fits(self) -> bool:
        """Whether its sizes are possible, and those of its factors its own."""
        rows, cols = self.layer.shape
        possible = 1 <= rows <= MAX_FEATURES and 1 <= cols <= MAX_FEATURES and 0 <= self.nnz <= rows * cols
        made = self.factors is None or (self.factors.shape, self.factors.n_weights) == (self.layer.shape, self.nnz)
        return possible and made and (self.pattern == FACTORED) == (self.factors is not None)
