"""Twins of what is no design with tiles: the two published formulas, sparse attention, and a DRAM channel."""

from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np

from simulator.accelerators.vitcod.attention.cycle import simulate as simulate_attention
from simulator.accelerators.vitcod.attention.paper import PaperSpec
from simulator.accelerators.vitcod.attention.paper import simulate as simulate_paper
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec
from simulator.cycles import Infeasible
from simulator.dram import PRESETS, serve
from simulator.dram.banks import COMMANDS
from simulator.machine.spec import load_spec
from validation.comparison import Comparison, error_of, percent, table
from validation.runs import run
from validation.twins import attention as attention_twin
from validation.twins import vitcod_paper as vitcod_paper_twin
from validation.twins.dram import Twin
from workloads.mask import PackedMask

HEAD = ("random cases", "cases", "cases that differ", "largest error")
SMALL_ATTENTION = (
    "array.width=5", "array.height=3", "attention.head_features=7", "attention.global_above=9",
    "engines.softmax_per_cycle=4", "dram.bandwidth_gbps=2.5", "number.accumulator_bits=20", "buffers.query_kib=0.8",
    "buffers.key_kib=0.7",
    "buffers.value_kib=0.7", "buffers.index_kib=2", "buffers.output_kib=4",
)  # fmt: skip


def summary(what: str, errors: Sequence[float]) -> tuple[str, int, int, str]:
    return what, len(errors), sum(error != 0 for error in errors), percent(max(errors, key=abs, default=0.0))


def vitcod_paper(cases: int = 60) -> Comparison:
    groups: list[tuple[str, list[float]]] = []
    for what, low, high, each in (("sides of 1-40", 1, 40, 2 * cases), ("sides of 190-420", 190, 420, cases // 4)):
        errors = []
        for case in range(max(1, each)):
            rng = np.random.default_rng((5, low, case))
            rows, cols = (int(n) for n in rng.integers(low, high + 1, 2))
            kept = vitcod_paper_twin.skewed(
                (6, low, case), rows, cols, heavy=rng.random(), low=rng.random() / 2, high=rng.random()
            )
            width, height = (int(n) for n in rng.integers(1, 65 if low > 1 else 10, 2))
            found = run("vitcod-paper", (f"array.width={width}", f"array.height={height}"), PackedMask.from_dense(kept))
            twin = vitcod_paper_twin.twin_cycles(kept, width, height)
            errors.append(error_of(found.sparse.cycles, twin))
        groups.append((what, errors))
    says = (
        "A literal walk over lists of labels, written from a description of BESA's program, of which no log was at "
        "hand: our reading, twice. Columns of two densities, so that the search over ratios does not end at its first "
        "try; the larger sides reach label 200, which the published program uses twice."
    )
    return Comparison(
        "vitcod-paper", "literal twin, random masks", "own rule", tuple(e for _, errors in groups for e in errors),
        says, [table(HEAD, [summary(*group) for group in groups])],
    )  # fmt: skip


def some_masks(rng: np.random.Generator, heads: int, tokens: int) -> np.ndarray:
    """A fifth of each head's keys kept at 80 %, the others at one density."""
    columns = np.where(rng.random((heads, 1, tokens)) < 0.2, 0.8, rng.choice([0.05, 0.15, 0.3]))
    return rng.random((heads, tokens, tokens)) < columns


def attention_paper(cases: int = 60) -> Comparison:
    errors = []
    for case in range(cases):
        rng = np.random.default_rng((7, case))
        sets = (
            f"array.width={rng.integers(2, 21)}", f"attention.global_above={rng.integers(1, 21)}",
            f"attention.head_features={rng.integers(1, 41)}", f"attention.encoder_ratio={rng.choice([0.25, 0.5, 1.0])}",
            f"dram.bandwidth_gibps={rng.choice([0.05, 1.0, 76.8])}",
        )  # fmt: skip
        spec = load_spec("vitcod-attention-paper", PaperSpec, sets)
        kept = some_masks(rng, int(rng.integers(1, 6)), int(rng.integers(1, 31)))
        try:
            lines = attention_twin.published_log(spec, kept)
            found = astuple(simulate_paper(spec, kept))[1:]
        except (ZeroDivisionError, Infeasible):
            continue  # the program divides by zero there
        errors.append(max((error_of(a, b) for a, b in zip(found, lines, strict=True)), key=abs))
    says = (
        "A literal twin of the ten log lines of a layer, on small masks and machines, where the published program does "
        "not divide by zero."
    )
    return Comparison(
        "vitcod-attention-paper", "literal twin, random masks", "own rule", tuple(errors), says,
        [table(HEAD, [summary("1-5 heads, 1-30 tokens, ten lines each", errors)])],
    )  # fmt: skip


def attention(cases: int = 60) -> Comparison:
    errors, wrong = [], 0
    for case in range(cases):
        rng = np.random.default_rng((8, case))
        sets = (f"engines.metadata={rng.choice(['coordinate', 'bitmap'])}",
                f"attention.encoder_ratio={rng.choice([0.5, 0.67, 1.0])}",
                f"engines.stationary={rng.choice(['best', 'queries', 'keys'])}")  # fmt: skip
        spec = load_spec("vitcod-attention", VitcodAttentionSpec, (*SMALL_ATTENTION, *sets))
        kept = some_masks(rng, int(rng.integers(1, 4)), int(rng.integers(5, 34)))
        try:
            found = simulate_attention(spec, kept)
        except Infeasible:
            continue
        twin, right = run_attention_twin(spec, kept, found.mapping, rng)
        wrong += not right
        model = (found.sddmm_cycles, found.spmm_cycles, found.decoder_cycles, found.softmax_cycles, found.cycles,
                 found.query_bytes, found.key_bytes, found.value_bytes, found.metadata_bytes,
                 found.output_bytes)  # fmt: skip
        other = (twin.sddmm, twin.spmm, twin.decoder, twin.softmax, twin.cycles, *twin.bytes.values())
        errors.append(max((error_of(a, b) for a, b in zip(model, other, strict=True)), key=abs))
    says = (
        "Both loop orders, both metadata kinds, with and without encoder, in the mapping the model chose. Compared: "
        "SDDMM, SpMM, decoder, softmax and total cycles, bytes of Q, K, V, metadata and outputs. Scores and outputs of "
        f"the twin against exact products: {wrong} wrong."
    )
    return Comparison(
        "vitcod-attention", "functional twin, random masks", "own rule", tuple(errors), says,
        [table(HEAD, [summary("1-3 heads, 5-33 tokens, ten figures each", errors)])],
    )  # fmt: skip


def run_attention_twin(
    spec: VitcodAttentionSpec, kept: np.ndarray, mapping: str, rng: np.random.Generator
) -> tuple[attention_twin.TwinResult, bool]:
    """The twin on random integers, and whether its scores and outputs are exact products, each position used once."""
    heads, tokens, _ = kept.shape
    d, left = spec.attention.head_features, spec.left_heads(heads)
    values = rng.integers(-9, 9, (tokens, heads, d))
    queries, keys = rng.integers(-9, 9, (2, tokens, left or heads, d))
    decoders = rng.integers(-4, 4, (2, heads, left)) if left else None
    full_q, full_k = (
        (np.einsum("hc,tcd->thd", decoder, part) for decoder, part in zip(decoders, (queries, keys), strict=True))
        if decoders is not None
        else (queries, keys)
    )
    scores = np.einsum("qhd,khd->hqk", full_q, full_k) * kept
    outputs = np.einsum("hqk,khd->hqd", scores, values)
    given = list(decoders) if decoders is not None else None
    machine = attention_twin.Machine(spec, kept, queries, keys, values, given, attention_twin.parse_mapping(mapping))
    twin = machine.run()
    right = np.array_equal(twin.scores, scores) and np.array_equal(twin.outputs, outputs)
    return twin, right and np.array_equal(twin.score_uses, kept)


def dram(cases: int = 60) -> Comparison:
    """Finish cycles of every request, and every command with its cycle and bank."""
    rows, errors = [], []
    for place, (device, preset) in enumerate(PRESETS.items()):
        timing = replace(preset, nRFC=40, nREFI=300)  # short intervals, so that few requests meet refreshes
        found = []
        for case in range(max(1, cases // 3)):
            rng = np.random.default_rng((9, place, case))
            n, refresh, depth = int(rng.integers(5, 41)), bool(rng.random() < 0.5), int(rng.choice([2, 5, 32]))
            bank, row = rng.integers(0, timing.banks, n) // 3, rng.integers(0, 3, n)
            write, arrival = rng.random(n) < 0.4, np.cumsum(rng.choice([0, 0, 0, 1, 3, 40], n))
            served = serve(timing, bank, row, write, arrival, refresh, depth, log=True)
            requests = list(zip(bank.tolist(), row.tolist(), write.tolist(), arrival.tolist(), strict=True))
            twin = Twin(timing, requests, refresh, depth)
            finish = twin.run()
            log = [(int(at), COMMANDS[name], int(b)) for at, name, b, _ in served.log]
            same = log == [entry[:3] for entry in twin.history]
            worst = max((error_of(a, b) for a, b in zip(served.finish_cycles.tolist(), finish, strict=True)), key=abs)
            found.append(worst if same or worst else float("inf"))
        rows.append(summary(device, found))
        errors += found
    says = (
        "A controller that keeps every command and looks back through them each cycle. Streams of 5-40 reads and "
        "writes, refresh on and off, queues of 2, 5 and 32; a case agrees where every request finishes in the same "
        "cycle and every command has the same cycle and bank."
    )
    head = ("device", *HEAD[1:])
    return Comparison("DRAM", "slow controller, random requests", "own rule", tuple(errors), says, [table(head, rows)])
