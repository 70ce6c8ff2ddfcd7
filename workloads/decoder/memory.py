"""What a decoder takes in a GPU's memory, whether it fits, and the largest batch and context that do.

    weights      every matrix as it is stored, a table that is also the head once
    KV cache     every token of every sequence, in each block; a window keeps no more than its own where the cache is a
                 ring
    activations  an upper bound for one step: the residual stream and the input of the operation that runs, its outputs,
                 and the logits in 4 bytes
    reserve      what the GPU's context, libraries and fragments take: named, not computed

Of a decoder that is one GPU's share (workloads/decoder/split.py) it is that GPU's."""

from collections.abc import Callable
from dataclasses import dataclass

from workloads.counts import Elements
from workloads.decoder.dimensions import Block, Decoder
from workloads.errors import UserError

GIB = 1 << 30
RESERVE_BYTES = 3.5 * GIB  # aiconfigurator's systems/*.yaml reserve as much a GPU, without its communication library
LOGIT_BYTES = 4
MOST = 1 << 40  # tokens or sequences that are looked for


@dataclass(frozen=True)
class Memory:
    weight_bytes: float
    kv_bytes: float
    activation_bytes: float
    reserve_bytes: float

    @property
    def total_bytes(self) -> float:
        return self.weight_bytes + self.kv_bytes + self.activation_bytes + self.reserve_bytes

    def fits(self, capacity_bytes: float) -> bool:
        return self.total_bytes <= capacity_bytes


@dataclass(frozen=True)
class Budget:
    """Of one GPU. `chunk`: tokens of a sequence that prefill takes at once, None: all; `is_ring`: a window's cache is
    overwritten in place, else it keeps every token; `all_logits` as the head computes them. Raises UserError."""

    capacity_bytes: float
    reserve_bytes: float = RESERVE_BYTES
    chunk: int | None = None
    is_ring: bool = True
    all_logits: bool = False

    def __post_init__(self) -> None:
        if not self.capacity_bytes > 0 or self.reserve_bytes < 0:
            raise UserError(
                f"a memory of {self.capacity_bytes:,.0f} B with {self.reserve_bytes:,.0f} B reserved; above 0, and at "
                "least 0"
            )
        if self.chunk is not None and self.chunk < 1:
            raise UserError(f"prefill in chunks of {self.chunk} tokens; at least 1")


def memory(
    decoder: Decoder, batch: int, context: int, elements: Elements, budget: Budget, prompt: int | None = None
) -> Memory:
    """At the end of `context` tokens of each of `batch` sequences; activations of a prefill of `prompt` of them (None:
    all), or of its chunks."""
    return Memory(
        weight_bytes(decoder, elements),
        batch * kv_bytes(decoder, context, elements, budget.is_ring),
        _step_bytes(decoder, batch, context if prompt is None else prompt, elements, budget),
        budget.reserve_bytes,
    )


def weight_bytes(decoder: Decoder, elements: Elements) -> float:
    """Of everything that is stored: matrices, biases, scales and metadata, norms, tables."""
    total = sum(number * _block_bytes(decoder, block, elements) for block, number in decoder.kinds)
    floats = decoder.parameters - decoder.block_parameters
    return total + floats * elements.float_bits / 8


def kv_bytes(decoder: Decoder, context: int, elements: Elements, is_ring: bool = True) -> float:
    """Of one sequence of `context` tokens."""
    values = 0
    for block, number in decoder.kinds:
        window = block.attention.window
        kept = min(context, window) if window is not None and is_ring else context
        values += number * kept * block.cached_size
    return values * elements.kv_bits / 8


def activation_bytes(decoder: Decoder, tokens: int, logits: int, elements: Elements) -> float:
    """Upper bound of what a step of `tokens` holds at once, `logits` rows of logits among it: residual stream and its
    norm, and of the widest block all outputs of q, k, v and attention, or of the FFN's first matrices and activation
    (of each expert that a token visits)."""
    widest = max((_widest(block) for block, _ in decoder.kinds), default=0)
    values = tokens * (2 * decoder.hidden_size + widest)
    return values * elements.activation_bits / 8 + logits * decoder.vocab_size * LOGIT_BYTES


def largest_batch(decoder: Decoder, context: int, elements: Elements, budget: Budget, prompt: int | None = None) -> int:
    """Sequences of `context` tokens that fit together; 0 if not one does."""
    one, two = (memory(decoder, n, context, elements, budget, prompt) for n in (1, 2))
    each = two.total_bytes - one.total_bytes  # all that grows with the batch grows in proportion
    return _largest(lambda n: one.total_bytes + (n - 1) * each <= budget.capacity_bytes)


def largest_context(
    decoder: Decoder, batch: int, elements: Elements, budget: Budget, prompt: Callable[[int], int] = int
) -> int:
    """Tokens that each of `batch` sequences can have; 0 if not one fits, MOST where no number is too many. `prompt`: of
    so many those that are prefilled at once or in the budget's chunks, else all. Whether the model was trained for as
    many is not asked."""
    weights = weight_bytes(decoder, elements)

    def fits(context: int) -> bool:
        kv = batch * kv_bytes(decoder, context, elements, budget.is_ring)
        step = _step_bytes(decoder, batch, prompt(context), elements, budget)
        return weights + kv + step + budget.reserve_bytes <= budget.capacity_bytes

    return _largest(fits)


def _step_bytes(decoder: Decoder, batch: int, prompt: int, elements: Elements, budget: Budget) -> float:
    """Activations of a prefill of so many tokens a sequence, or of its largest chunk."""
    new = min(prompt, budget.chunk or MOST)
    return activation_bytes(decoder, batch * new, batch * (new if budget.all_logits else 1), elements)


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest number that fits, of numbers that fit less and less; MOST where all do."""
    low, high = 0, 1
    while high < MOST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _block_bytes(decoder: Decoder, block: Block, elements: Elements) -> float:
    stored = sum(number * matrix.stored_bytes(elements) for matrix, number in block.stored)
    return stored + decoder.small_parameters(block) * elements.float_bits / 8


def _widest(block: Block) -> int:
    """Values a token."""
    attention = block.attention
    keys = attention.heads if attention.latent is not None else attention.kv_heads
    heads = (attention.heads + keys) * (attention.head_size + attention.value_size)
    ffn = 0
    for matrix in block.matrices:
        if matrix.role in ("down", "fc2", "shared_down"):
            ffn = max(ffn, 3 * matrix.in_features)
    if block.mixture is not None:
        visits = block.mixture.experts.per_token
        ffn = max(ffn, *(visits * (3 * down.in_features + down.out_features) for _, down, _ in block.mixture.kinds))
    return max(heads, ffn)
