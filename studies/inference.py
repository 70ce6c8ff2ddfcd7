"""Whole models on GPUs and accelerators: prefill, decode and memory of every configuration that is asked for, one row
each."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from checkpoints.catalog import resolve_config
from checkpoints.decoders import decoder_of
from simulator.gpu.operators.stack import Stack
from simulator.inference.runner import Numbers, Runner
from simulator.inference.steps import GROUPS, TimedRow, Times, times_of
from simulator.runners import find_runner
from studies.designs import Named
from studies.end_to_end import whole_rows
from studies.once import check_once
from studies.progress import ProgressLine
from studies.sparse_attention import SparseAttention
from studies.treatments import Treatment
from workloads import __version__
from workloads.bundle import HEADER_FILE, MaskBundle
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.decoder.bundled import bundled
from workloads.decoder.dimensions import Decoder
from workloads.decoder.memory import GIB, Budget, Memory, largest_batch, largest_context, memory
from workloads.decoder.split import split
from workloads.errors import NothingRan, UserError
from workloads.phases import Generation, Phase, generate
from workloads.rows import to_frame
from workloads.verdicts import verdict

INFERENCE_TABLE = (
    "method", "target", "dtype", "tensor_parallel", "batch", "prompt", "generate", "prefill_ms", "decode_ms_per_token",
    "tokens_per_s", "weight_gib", "kv_gib", "fits", "largest_batch", "largest_context",
    *(f"{group}_share" for group in GROUPS), "bound",
    "latency_error_p90", "speedup", "verdict", "reason",
)  # fmt: skip
OPERATION_TABLE = (
    "method", "target", "dtype", "batch", "phase", "operation", "executions", "latency_us", "share", "bound", "kernel",
    "latency_error_p90", "assumed",
)  # fmt: skip
SAID = 3  # operations outside the data that a row names
MOST = 999_999_999  # of batch, prompt, generate and GPUs
SAME_KERNELS = "same kernels"
VERBS = {"predicted": "predicting", "simulated": "simulating"}


@dataclass(frozen=True)
class Asked:
    """A model, or a bundle with what is left of it; `dense` is the same without masks."""

    name: str
    method: str
    decoder: Decoder
    dense: Decoder
    bundle: MaskBundle | None = None
    attention: SparseAttention | None = None

    def on(self, runner: Runner, tokens: frozenset[int]) -> "OnRunner":
        """As a runner has it that phases of so many tokens are asked of. Raises UserError."""
        if self.bundle is None:
            return OnRunner(runner, self.decoder, self.dense, self.attention)
        return OnRunner(*runner.holding(self.dense, self.bundle, tokens), self.attention)


@dataclass(frozen=True)
class Configuration:
    runner: Runner
    numbers: Numbers
    ranks: int
    host: str
    stack: Stack
    work: Generation | Phase
    reserve_bytes: float

    @property
    def budget(self) -> Budget | None:
        """None where the runner's memory is not stated."""
        capacity = self.runner.capacity_gib
        return None if capacity is None else Budget(capacity * GIB, self.reserve_bytes)

    @property
    def tokens(self) -> tuple[int, ...]:
        """That pass together in its phases."""
        work = self.work
        return (work.prefill.tokens, work.batch) if isinstance(work, Generation) else (work.tokens,)

    @property
    def prompt(self) -> int:
        """Tokens of a sequence before the ones that are made; those that are cached, of a decode step alone."""
        return self.work.prompt if isinstance(self.work, Generation) else self.work.past


def shown_in_table(frame: pd.DataFrame) -> tuple[str, ...]:
    """Without what no row has: methods, errors of cycle models, or shares of experts; those shown add up to the whole
    time."""
    table = OPERATION_TABLE if "operation" in frame else INFERENCE_TABLE
    there = {name: frame[name].astype("object") for name in table}
    return tuple(
        name
        for name, values in there.items()
        if (values.notna() & (values != "")).any() and (not name.endswith("_share") or values.fillna(0).any())
    )


def open_model(text: str, attention: SparseAttention | None = None) -> Asked:
    """Of a bundle's folder, or whatever checkpoints/catalog.py takes for a model. Raises UserError."""
    if (Path(text) / HEADER_FILE).is_file():
        bundle = MaskBundle.open(text)
        header = bundle.header
        if not header.model_config:
            raise UserError(f"{text}: the bundle does not say of what model it is, so only its linears are known")
        dense = decoder_of(header.model_config)
        return Asked(header.model_id, header.method, bundled(dense, bundle), dense, bundle, attention)
    if Path(text).name == HEADER_FILE and Path(text).is_file():
        raise UserError(f"{text} is the header of a mask bundle; give its folder, {Path(text).parent}")
    name, config = resolve_config(text)
    dense = decoder_of(config)
    return Asked(name, "", dense, dense, attention=attention)


def configurations(
    on: Sequence[Named], batch: Sequence[int], prompt: Sequence[int], new: Sequence[int], dtypes: Sequence[str] = (),
    ranks: Sequence[int] = (1,), kv_bits: int | None = None, host: str = "", routing: str = "uniform",
    reserve_gib: float | None = None, sets: Sequence[str] = (),
) -> list[Configuration]:  # fmt: skip
    """Every combination, in this order; what is left out, each runner has its own of. Raises UserError for what is
    none."""
    if not on:
        raise UserError("`on` is empty; give at least one")
    sizes_given = (("batch", batch), ("prompt", prompt), ("generate", new), ("tensor_parallel", ranks))
    for name, sizes in sizes_given:
        if not sizes or not 1 <= min(sizes) <= max(sizes) <= MOST:
            raise UserError(f"`{name}` {', '.join(map(str, sizes)) or 'is empty'}: whole numbers from 1 to {MOST:,}")
    for name, values in (("dtype", dtypes), *sizes_given):
        check_once(name, values)
    if reserve_gib is not None and not 0 <= reserve_gib < math.inf:
        raise UserError(f"`reserve_gib` {reserve_gib}: the GiB of a memory that are kept free, at least 0")
    made = []
    runners = [find_runner(name, sets) for name in on]
    check_once("on", [runner.name for runner in runners])
    for runner in runners:
        said, stack = runner.host(host)
        numbers = [runner.numbers(name, kv_bits, routing) for name in dtypes or [""]]
        reserve = (runner.reserve_gib if reserve_gib is None else reserve_gib) * GIB
        made += [
            Configuration(runner, one, n, said, stack, generate(*size), reserve)
            for one, n, size in itertools.product(numbers, ranks, itertools.product(batch, prompt, new))
        ]
    return made


def treated_as(
    asked: Asked, treatments: Sequence[Treatment], dtypes: Sequence[str],
    make: Callable[[Sequence[str]], list[Configuration]],
) -> list[tuple[Asked, list[Configuration]]]:  # fmt: skip
    """The model under each treatment with what `make` asks of it in some types, [] each machine's own: those of
    `dtypes`; or the one that a treatment names, on GPUs, and elsewhere weights of as many bits. Raises UserError for a
    bundle, and where a treatment does not fit the model."""
    if not treatments:
        return [(asked, make(dtypes))]
    if asked.method:
        raise UserError(f"`treat` is for models; what was done to {asked.name} its bundle says itself")
    found: list[tuple[Asked, list[Configuration]]] = []
    for one in treatments:
        plain = replace(asked, method=one.name, decoder=one.of(asked.dense))
        if not one.dtype:
            found.append((plain, make(dtypes)))
            continue
        wanted = make([])
        gpus = [_in_type(each, one.dtype) for each in wanted if each.runner.source == "predicted"]
        others = [each for each in wanted if each.runner.source != "predicted"]
        found += [(plain, gpus)] if gpus else []
        if others:
            found.append((replace(plain, decoder=one.in_bits(asked.dense, others[0].runner.name)), others))
    return found


def _in_type(one: Configuration, dtype: str) -> Configuration:
    elements = one.numbers.elements
    return replace(one, numbers=one.runner.numbers(dtype, elements.kv_bits, elements.routing))


def frame_of(
    each: Sequence[tuple[Asked, Sequence[Configuration]]],
    operations: bool,
    progress: ProgressLine,
    measured: Sequence[Path] = (),
) -> pd.DataFrame:
    """Rows of several models or treatments, and of files of measured ones. Raises UserError as the two below,
    NothingRan where none has operations."""
    if not operations:
        others = [whole_rows(path) for path in measured]
        made = [inference_frame(asked, wanted, progress) for asked, wanted in each]
        return pd.concat([*made, *others], ignore_index=True)
    if measured:
        raise UserError("`measured` has whole models alone; leave `operations` out")
    found, refused = [], []
    for asked, wanted in each:
        try:
            found.append(operations_frame(asked, wanted, progress))
        except NothingRan as error:
            refused.append(error)
    if not found:
        raise refused[0]
    return pd.concat(found, ignore_index=True)


def inference_frame(asked: Asked, wanted: Sequence[Configuration], progress: ProgressLine) -> pd.DataFrame:
    """A row each; of those that cannot run the reason."""
    rows = []
    for number, (one, model) in enumerate(_with_models(asked, wanted), 1):
        rows.append({**_facts(asked, one), **_figures(model, one)})
        progress(f"{VERBS[one.runner.source]} on {one.runner.name}", number, len(wanted))
    return to_frame(rows, INFERENCE_COLUMNS)


def operations_frame(asked: Asked, wanted: Sequence[Configuration], progress: ProgressLine) -> pd.DataFrame:
    """A row for each operation of each configuration; those that cannot run have none. Raises NothingRan where none
    can."""
    rows: list[dict[str, Any]] = []
    for number, (one, model) in enumerate(_with_models(asked, wanted), 1):
        try:
            times = model.times(one)
        except UserError as error:
            if len(wanted) == 1:
                raise NothingRan(str(error)) from None
            continue
        facts = {key: value for key, value in _facts(asked, one).items() if key != "spec_sha256"}
        rows += [{**facts, **row} for row in _operations(times)]
        progress(f"{VERBS[one.runner.source]} on {one.runner.name}", number, len(wanted))
    if not rows:
        raise NothingRan("none of the configurations can run; without `operations` each says why")
    return to_frame(rows, OPERATION_COLUMNS)


@dataclass(frozen=True)
class OnRunner:
    """What is asked for, as a runner has it."""

    runner: Runner
    decoder: Decoder
    dense: Decoder
    attention: SparseAttention | None = None
    stored: dict[tuple[int, Numbers], Decoder] = field(default_factory=dict)

    def times(self, one: Configuration) -> Times:
        share = self._share(self.decoder, one.ranks)
        found = times_of(self.runner, share, one.work, one.numbers, one.stack)
        return self.attention.in_place(found, share, one.work, self.runner) if self.attention else found

    def unpruned_times(self, one: Configuration) -> Times:
        numbers = self.runner.dense_numbers(one.numbers)
        share = self._share(self.dense, one.ranks)
        found = times_of(self.runner, share, one.work, numbers, one.stack)
        return self.attention.unpruned(found, share, one.work, self.runner) if self.attention else found

    def is_unpruned(self, one: Configuration) -> bool:
        same = self.decoder is self.dense and self.attention is None
        return same and one.numbers == self.runner.dense_numbers(one.numbers)

    def _share(self, decoder: Decoder, ranks: int) -> Decoder:
        key = "share", ranks
        if key not in decoder.memo:
            decoder.memo[key] = split(decoder, ranks)
        found: Decoder = decoder.memo[key]
        return found

    def _stored(self, one: Configuration) -> Decoder:
        key = one.ranks, one.numbers
        if key not in self.stored:
            self.stored[key] = self.runner.as_stored(self._share(self.decoder, one.ranks), one.numbers)
        return self.stored[key]

    def memory(self, one: Configuration) -> tuple[Memory, int | None, int | None]:
        """What is needed, the most sequences that fit, and of the longest of these sequences the tokens in the cache;
        None where that is not known, or no sequence is too long."""
        own = self._stored(one)
        work, elements, budget = one.work, one.numbers.elements, one.budget
        together = partial(_together, work)
        of = budget or Budget(math.inf, one.reserve_bytes)
        needed = memory(own, work.batch, work.context, elements, of, together(work.context))
        if budget is None:
            return needed, None, None
        longest = largest_context(own, work.batch, elements, of, together)
        most = largest_batch(own, work.context, elements, of, together(work.context))
        return needed, most, longest if longest <= MOST else None


def _together(work: Generation | Phase, context: int) -> int:
    """Tokens of a sequence that pass at once, were there so many in the cache: the prompt of a generation, the new ones
    of a prefill, one of a decode step."""
    if isinstance(work, Phase) and work.name == "decode":
        return work.new
    return max(context - (work.past if isinstance(work, Phase) else work.new - 1), 1)


def _with_models(asked: Asked, wanted: Sequence[Configuration]) -> Iterator[tuple[Configuration, OnRunner]]:
    """A runner's configurations share what it knows of the model."""
    last: tuple[Runner, OnRunner] | None = None
    tokens = frozenset(each for one in wanted for each in one.tokens)
    for one in wanted:
        if last is None or last[0] is not one.runner:
            last = one.runner, asked.on(one.runner, tokens)
        yield one, last[1]


def _facts(asked: Asked, one: Configuration) -> dict[str, Any]:
    runner, beside = one.runner, asked.attention.settings if asked.attention else ""
    return {
        "model": asked.name, "method": asked.method, "target": runner.name,
        "settings": f"{runner.settings} {beside}".strip(),
        "dtype": one.numbers.name, "kv_bits": one.numbers.elements.kv_bits, "tensor_parallel": one.ranks,
        "host": one.host, "batch": one.work.batch, "prompt": one.prompt, "generate": one.work.new,
        "source": runner.source, "spec_sha256": runner.sha256, "tool_version": __version__,
    }  # fmt: skip


def _figures(model: OnRunner, one: Configuration) -> dict[str, Any]:
    try:
        needed, most, longest = model.memory(one)
        times = model.times(one)
        before = times if model.is_unpruned(one) else model.unpruned_times(one)
    except UserError as why:
        return {"feasible": False, "reason": str(why), "fits": False}
    return {
        "prefill_ms": times.us("prefill") / 1e3 if isinstance(one.work, Generation) else None,
        "decode_ms_per_token": times.us("decode") / 1e3 / times.steps if times.steps else None,
        "tokens_per_s": one.work.batch * one.work.new / times.us() * 1e6,
        "weight_gib": needed.weight_bytes / GIB,
        "kv_gib": needed.kv_bytes / GIB,
        "activation_gib": needed.activation_bytes / GIB,
        "memory_gib": needed.total_bytes / GIB,
        "fits": None if one.budget is None else needed.fits(one.budget.capacity_bytes),
        "largest_batch": most,
        "largest_context": longest,
        **{f"{group}_share": share for group, share in times.shares().items()},
        "bound": times.bound(),
        "speedup": before.us() / times.us(),
        **(_errors(times, before) if model.runner.has_errors else {}),
        "extrapolated": "; ".join(_extrapolated(times)),
        "feasible": True,
        "reason": "; ".join(filter(None, [model.runner.no_capacity if one.budget is None else "", *times.unused()])),
    }


def _errors(times: Times, before: Times) -> dict[str, Any]:
    speedup, error = before.us() / times.us(), _speedup_error(times, before)
    word = str(verdict(np.array([speedup]), np.array([error]))[0])
    return {
        "latency_error_p90": times.error_p90(),
        "speedup_error_p90": error,
        "verdict": word if error else SAME_KERNELS,
    }


def _speedup_error(times: Times, before: Times) -> float:
    """Of two sums: operations that take as long in both cancel, the others are off independently at worst."""
    common = {_key(row) for row in times.rows} & {_key(row) for row in before.rows}

    def error(one: Times) -> float:
        return sum(row.us * row.error_p90 for row in one.rows if _key(row) not in common) / one.us()

    return math.hypot(error(times), error(before))


def _key(row: TimedRow) -> tuple[str, str, float]:
    return row.phase, row.operation.name, row.us


def _extrapolated(times: Times) -> list[str]:
    """Of the operations that take longest."""
    outside = sorted((row for row in times.rows if row.extrapolated), key=lambda row: -row.us)
    return [f"{row.phase} {row.operation.role}: {row.extrapolated}" for row in outside[:SAID]]


def _operations(times: Times) -> Iterator[dict[str, Any]]:
    whole = times.us()
    for row in times.rows:
        yield {
            "phase": row.phase, "operation": row.operation.name, "role": row.operation.role,
            "executions": row.executions, "latency_us": row.us, "share": row.us / whole, "bound": row.bound,
            "latency_error_p90": row.error_p90, "kernel": row.kernel, "assumed": row.assumed or row.unused,
            "extrapolated": row.extrapolated, "flop": row.counts.flop, "weight_bytes": row.counts.bytes_weight,
            "activation_bytes": row.counts.bytes_act, "kv_bytes": row.counts.bytes_kv,
            "link_bytes": row.counts.bytes_link,
        }  # fmt: skip
    for phase, us in times.host_us.items():
        yield {
            "phase": phase, "operation": "host", "role": "host", "executions": times.steps if phase == "decode" else 1,
            "latency_us": us, "share": us / whole, "bound": "host",
        }  # fmt: skip
