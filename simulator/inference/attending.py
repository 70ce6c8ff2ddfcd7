"""Attention of a decoder on an accelerator's arrays: operands that are activations.

Of each sequence and kv head, the `group` query heads that share it go through two products, as the machine runs
unpruned matrices, in the weights' place first keys, then values:

    scores   keys x head size, for group x pairs / keys tokens
    outputs  value size x keys, for as many

where `pairs` are of a query and a key that it sees: a rectangle of as many products as the triangle or the band that
is computed, whose tiles beyond it are left out. Decode is exactly that: one query a head, all keys.

Heads are independent of each other. Where a machine has several arrays (`Accelerator.arrays`), all work on one head in
lock step, or half of them each on its own, or a quarter, ... down to one array a head, with their share of the buffers:
in ceil(heads / at once) rounds, whichever takes the least time.

DRAM: queries and outputs once; keys and values once where those of a kv head fit (half of) the weight buffer, else
again for every tile of queries, as many as the activation and the output buffer hold of queries and of sums of
outputs. Scores stay on chip, and the array waits for the slower of both; then softmax takes the vector unit 5
operations a score. Keys and values of fewer bits than weights multiply at their bits, those of more at the weights',
and move at their own."""

from dataclasses import dataclass, replace

import numpy as np

from simulator.accelerators import Accelerator
from simulator.cycles import Infeasible, ceil_div
from simulator.inference.linears import dense_cycles
from simulator.machine.parts import Machine
from simulator.machine.port import port_of
from workloads.counts import Counts, Elements
from workloads.errors import UserError
from workloads.operations.causal import CausalAttention, LatentAttention, Softmax, seen_keys
from workloads.phases import Phase


@dataclass(frozen=True)
class Attended:
    """Of all sequences and heads: products on `at_once` groups of arrays, what DRAM moves and for how long, operations
    of softmax."""

    array_us: float
    memory_us: float
    counts: Counts
    softmax_operations: float
    at_once: int = 1


def attention_of(
    accelerator: Accelerator, one: CausalAttention | LatentAttention, phase: Phase, elements: Elements
) -> Attended:
    """Raises UserError where not even a tile of it fits the machine."""
    ways = [n for n in range(1, accelerator.arrays + 1) if accelerator.arrays % n == 0]
    found, refused = [], []
    for at_once in ways:
        try:
            found.append(_attended(accelerator, at_once, one, phase, elements))
        except Infeasible as error:
            refused.append(error)
    if not found:
        raise UserError(f"{one.name}: {refused[0]}")
    return min(found, key=lambda each: max(each.array_us, each.memory_us))


def _attended(
    accelerator: Accelerator, at_once: int, one: CausalAttention | LatentAttention, phase: Phase, elements: Elements
) -> Attended:
    """With so many heads at a time. Raises Infeasible."""
    causal = one.as_causal(phase) if isinstance(one, LatentAttention) else one
    part = accelerator.share(accelerator.arrays // at_once) if at_once > 1 else accelerator
    spec: Machine = part.spec
    keys, group = causal.keys(phase), ceil_div(causal.heads, causal.kv_heads)
    tokens = ceil_div(group * seen_keys(phase.new, phase.past, causal.window), keys)
    bits = elements.kv_bits if elements.kv_bits < spec.number.weight_bits else None
    scores = dense_cycles(part, keys, causal.head_size, tokens, bits)
    outputs = dense_cycles(part, causal.value_size, keys, tokens, bits)
    busy = sum(each.compute_cycles + each.buffer_cycles for each in (scores, outputs))
    array_us = busy * ceil_div(phase.batch * causal.kv_heads, at_once) / spec.clock.mhz
    counts = one.counts(phase, elements) + reloaded(spec, one, causal, phase, elements)
    whole: Machine = accelerator.spec
    memory_us = counts.bytes_moved / (port_of(whole.dram, whole.clock.mhz).bytes_per_cycle * whole.clock.mhz)
    operations = Softmax("", "", -1, causal).counts(phase, elements).flop
    return Attended(array_us, memory_us, counts, operations, at_once)


def reloaded(
    spec: Machine, one: CausalAttention | LatentAttention, causal: CausalAttention, phase: Phase, elements: Elements
) -> Counts:
    """What moves of keys and values beyond once."""
    expanded = isinstance(one, LatentAttention) and phase.name == "prefill"  # keys and values are activations there
    width = elements.activation_bits if expanded else elements.kv_bits
    sizes = causal.head_size + causal.value_size
    once = causal.keys(phase)
    halves = 2 if spec.buffers.double else 1
    weight, _, activation, output = (capacity * 8 / halves for capacity in spec.buffers.capacities)
    if once * sizes * width <= weight:
        return Counts()
    group = ceil_div(causal.heads, causal.kv_heads)
    held = min(
        activation / (causal.head_size * elements.activation_bits),
        output / (causal.value_size * spec.number.accumulator_bits),
    )
    starts = np.arange(0, phase.new, max(int(held / group), 1), dtype=np.int64)
    stops = np.append(starts[1:], phase.new)
    read = phase.past + stops
    if causal.window is not None:
        read = np.minimum(read, causal.window - 1 + stops - starts)
    again = phase.batch * causal.kv_heads * sizes * (int(read.sum()) - once) * width / 8
    return replace(Counts(), **{"bytes_act" if expanded else "bytes_kv": float(max(again, 0.0))})
