"""BlockJobs of tiny blocks written by hand, for methods and quantizers on their own."""

import torch
from torch import nn
from torch.nn import functional as F

from checkpoints.discovery import block_linears
from pruning.block_job import BlockJob, Decision
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.quantization_grid import QuantizationGrid

HIDDEN, INNER, SAMPLES, SEQ_LEN = 32, 48, 4, 10


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.o_proj(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], is_causal=True)[:, 0])


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(HIDDEN, INNER, bias=False), nn.Linear(HIDDEN, INNER, bias=False)
        self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """Three stacked experts; even tokens go to the first, odd ones to the second, none to the third."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts, self.is_transposed = 3, False
        self.gate_up_proj = nn.Parameter(torch.empty(3, 2 * INNER, HIDDEN))
        self.down_proj = nn.Parameter(torch.empty(3, HIDDEN, INNER))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(x)
        for expert in range(2):
            gate, up = F.linear(x[:, expert::2], self.gate_up_proj[expert]).chunk(2, dim=-1)
            out[:, expert::2] = F.linear(F.silu(gate) * up, self.down_proj[expert])
        return out


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = Experts()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.experts(x)


class Block(nn.Module):
    def __init__(self, mlp: nn.Module):
        super().__init__()
        self.input_norm, self.self_attn = nn.RMSNorm(HIDDEN), Attention()
        self.mlp_norm, self.mlp = nn.RMSNorm(HIDDEN), mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_norm(x))
        return x + self.mlp(self.mlp_norm(x))


@torch.no_grad()
def make_job(
    bits: int = 4,
    group_size: int = 0,
    symmetric: bool = False,
    scale_dtype: torch.dtype = torch.float32,
    seed: int = 0,
    mixture: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[BlockJob, list[str]]:
    """(job, the warnings it will give): a block with random weights, whose norms make some features much larger than
    others. 4 sequences of 10 tokens come in batches of 2; the unpruned model's hidden states differ a little from the
    job's."""
    draw = torch.Generator().manual_seed(seed)
    block = Block(Mixture() if mixture else Mlp()).eval().requires_grad_(False)
    for name, parameter in block.named_parameters():
        noise = torch.randn(parameter.shape, generator=draw)
        parameter.copy_(noise.exp() if "norm" in name else 0.15 * noise)
    block.to(dtype)
    refs = block_linears(block, "model.layers.0", 0)
    inputs = [torch.randn(2, SEQ_LEN, HIDDEN, generator=draw).to(dtype) for _ in range(SAMPLES // 2)]
    dense_inputs = [x + 0.05 * torch.randn(x.shape, generator=draw).to(dtype) for x in inputs]
    sums: Sums = {}
    with InputWatch(block, refs, hessian=True, absolute=True) as watch:
        for x in inputs:
            merge(sums, watch.observe(lambda x=x: block(x))[1])
    warnings: list[str] = []
    job = BlockJob(
        number=0, block=block, refs=refs, run=block, sparsity={}, patterns={}, keeper=lambda ref, scores: scores > 0,
        warn=warnings.append, grid=lambda ref: QuantizationGrid(bits, group_size, symmetric, scale_dtype),
        samples=SAMPLES, moments=InputMoments(SAMPLES, sums), inputs=inputs, outputs=[block(x) for x in inputs],
        dense_inputs=dense_inputs, dense_outputs=[block(x) for x in dense_inputs],
    )  # fmt: skip
    return job, warnings


def half_pruned(job: BlockJob) -> dict[str, Decision]:
    """The smaller half of every row goes."""
    decisions = {}
    for ref in job.refs:
        size = job.weight(ref).abs()
        decisions[ref.layer.name] = Decision(size > size.median(dim=1, keepdim=True).values)
    return decisions


def all_kept(job: BlockJob) -> dict[str, Decision]:
    return {ref.layer.name: Decision(torch.ones_like(job.weight(ref), dtype=torch.bool)) for ref in job.refs}


def check_on_grid(decisions: dict[str, Decision], made: dict[str, Decision]) -> None:
    """What every quantizer promises of its decisions."""
    assert made.keys() == decisions.keys()
    for name, decision in made.items():
        assert torch.equal(decision.keep, decisions[name].keep)
        assert decision.quantized is not None
        assert decision.weight is not None
        assert torch.equal(decision.weight, decision.quantized.dequantize())
        assert decision.weight.dtype == torch.float32
        assert not bool(decision.weight[~decision.keep].any())
        assert bool(torch.isfinite(decision.weight).all())
        scale = decision.quantized.scale
        assert torch.equal(scale.to(decision.quantized.grid.scale_dtype).float(), scale)
