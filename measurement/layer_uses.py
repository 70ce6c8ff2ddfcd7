"""Layers of networks in a record: what samples ask of them (workloads/uses.py). Needs no torch.

A layer in a record's header has `use` and `samples`, the batches that were asked for, where it is of a network that is
no language model; its cases then have `use.tokens` tokens a sample, and a row is of all its runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workloads.errors import UserError
from workloads.operations import Linear
from workloads.uses import ONCE, Use

Facts = dict[str, Any]
MOST_TOKENS = 1 << 24


def used(layer: Facts, use: Use, samples: Sequence[int]) -> Facts:
    """The layer of a network, as a header keeps it. Raises UserError for more tokens than a GEMM has here."""
    if max(samples) * use.tokens > MOST_TOKENS:
        raise UserError(
            f"{layer['name']} makes {use.tokens:,} tokens of a sample, so {max(samples):,} samples are "
            f"{max(samples) * use.tokens:,}, above {MOST_TOKENS:,}; give fewer `tokens`"
        )
    return {**layer, "use": use.plain(), "samples": list(samples)}


def use_of(layer: Mapping[str, Any]) -> Use:
    return Use(**layer["use"]) if "use" in layer else ONCE


def tokens_of(layer: Mapping[str, Any], samples: Iterable[int]) -> list[int]:
    """Of the layer, each time that it runs."""
    return [count * use_of(layer).tokens for count in samples]


def asked(layer: Mapping[str, Any], cases: Sequence[Facts]) -> list[Facts]:
    """Those at what the layer's samples make; all where it has none."""
    if "samples" not in layer:
        return list(cases)
    tokens = tokens_of(layer, layer["samples"])
    return [case for case in cases if case["tokens"] in tokens]


def samples_in(layers: Iterable[Mapping[str, Any]]) -> list[int]:
    """All that were asked of a record's layers."""
    return sorted({count for layer in layers for count in layer.get("samples", ())})


def merged(old: Sequence[Facts], new: Sequence[Facts]) -> list[Facts]:
    """The layers of a record that grows: those there, with the samples of both, and then the others."""
    found = {(layer.get("model"), layer.get("name")): layer for layer in new}
    layers = []
    for layer in old:
        again = found.pop((layer.get("model"), layer.get("name")), layer)
        if "samples" in again:
            both = dict.fromkeys([*layer.get("samples", ()), *again["samples"]])
            layer = {**layer, "use": again["use"], "samples": list(both)}
        layers.append(layer)
    return [*layers, *found.values()]


def as_used(layer: Mapping[str, Any], row: Facts) -> Facts:
    """A row at the layer's tokens as one of samples: its times are those of all runs."""
    if "use" not in layer:
        return row
    use = use_of(layer)
    times = {name: row[name] * use.runs for name in ("latency_us", "dense_latency_us") if row.get(name) is not None}
    return {
        **row, **times, "tokens": row["tokens"] // use.tokens, "layer_tokens": float(row["tokens"]),
        "executions": float(use.runs), "mapping": use.words(row.get("mapping") or ""),
    }  # fmt: skip


def facts_of(linear: Linear) -> Facts:
    """As a header has it, of an operation; {} where a sample is a token."""
    return {} if linear.use == ONCE else {"use": linear.use.plain()}
