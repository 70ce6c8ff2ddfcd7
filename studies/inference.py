"""Rows of whole models on GPUs and accelerators: prefill, decode and memory of every configuration that is asked for,
one row each, or one for each operation."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from measurement.published import WHOLE_MODELS
from measurement.published_models import rows_beside
from simulator.inference.runner import Runner
from simulator.inference.steps import GROUPS, TimedRow, Times
from studies.asked import Asked, OnRunner
from studies.configurations import Configuration
from studies.end_to_end import whole_rows
from studies.progress import ProgressLine
from studies.treatments import Treatment
from workloads import __version__
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.decoder.memory import GIB
from workloads.errors import NothingRan, UserError
from workloads.phases import Generation
from workloads.routing import UNIFORM
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
SAME_KERNELS = "same kernels"
VERBS = {"predicted": "predicting", "simulated": "simulating"}


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
            runner, own = others[0].runner, others[0].numbers.elements.weight_bits
            found.append((replace(plain, decoder=one.in_bits(asked.dense, runner.name, own)), others))
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
        others = [whole_rows(path) for path in measured if str(path) != WHOLE_MODELS]
        made = [inference_frame(asked, wanted, progress) for asked, wanted in each]
        if Path(WHOLE_MODELS) in measured:
            others.append(to_frame(rows_beside(pd.concat(made, ignore_index=True), nearest=True), INFERENCE_COLUMNS))
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


def _with_models(asked: Asked, wanted: Sequence[Configuration]) -> Iterator[tuple[Configuration, OnRunner]]:
    """A runner's configurations share what it knows of the model."""
    last: tuple[Runner, OnRunner] | None = None
    tokens = frozenset(each for one in wanted for each in one.tokens)
    for one in wanted:
        if last is None or last[0] is not one.runner:
            last = one.runner, asked.on(one.runner, tokens)
        yield one, last[1]


def _facts(asked: Asked, one: Configuration) -> dict[str, Any]:
    runner = one.runner
    routing = "" if asked.routing.kind == UNIFORM.kind else f"routing={asked.routing.text}"
    settings = (runner.settings, asked.attention.settings if asked.attention else "", routing)
    return {
        "model": asked.name, "method": asked.method, "target": runner.name,
        "settings": " ".join(filter(None, settings)),
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
