"""Products of two factors with dense blocks (workloads/factors.py) in torch. Tensors: first (c, q, in / c), second (g,
out / g, c q / g)."""

import torch
from torch import nn

from workloads.factors import Blocks, Factors

Pair = tuple[torch.Tensor, torch.Tensor]


def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(out, in), the matrix that both make."""
    (columns, width, cols), (groups, rows, _) = first.shape, second.shape
    each = width // groups
    made = first.new_empty(groups * rows, columns * cols)
    for k in range(columns):
        for g in range(groups):
            made[g::groups, k * cols : (k + 1) * cols] = second[g, :, k * each : (k + 1) * each] @ first[k, g::groups]
    return made


class FactoredLinear(nn.Module):
    """A linear whose matrix is a product: the blocks of both factors are linears, the bias is the whole's.

    (..., in) -> (..., out)."""

    def __init__(self, sizes: Factors, bias: nn.Parameter | None, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.in_features, self.out_features = sizes.shape[1], sizes.shape[0]
        self.first, self.second = (_linears(blocks, dtype, device) for blocks in (sizes.first, sizes.second))
        self.bias = bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        parts = inputs.chunk(len(self.first), dim=-1)
        inner = torch.cat([block(part) for block, part in zip(self.first, parts, strict=True)], dim=-1)
        groups = len(self.second)  # channel m enters block m mod groups at place m div groups
        outer = [block(inner[..., g::groups]) for g, block in enumerate(self.second)]
        outputs = torch.stack(outer, dim=-1).flatten(-2)  # output r of block g is at r * groups + g
        return outputs if self.bias is None else outputs + self.bias


def _linears(blocks: Blocks, dtype: torch.dtype, device: torch.device) -> nn.ModuleList:
    count, rows, cols = blocks
    made = nn.ModuleList(nn.Linear(cols, rows, bias=False, dtype=dtype, device=device) for _ in range(count))
    return made.requires_grad_(False)


def factor_module(model: nn.Module, name: str, sizes: Factors) -> FactoredLinear:
    """Puts a product in the place of the linear `name`, whose bias it takes; its blocks have no weights yet."""
    path, _, leaf = name.rpartition(".")
    linear = model.get_submodule(name)
    weight, bias = linear.weight, getattr(linear, "bias", None)
    made = FactoredLinear(sizes, bias, weight.dtype, weight.device)  # type: ignore[arg-type]
    setattr(model.get_submodule(path), leaf, made)
    return made


def tensors_of(pair: Pair, prefix: str) -> dict[str, torch.Tensor]:
    """The weights of the blocks of two factors, as a FactoredLinear at `prefix` names them."""
    return {
        f"{prefix}{which}.{number}.weight": block
        for which, factor in zip(("first", "second"), pair, strict=True)
        for number, block in enumerate(factor)
    }
