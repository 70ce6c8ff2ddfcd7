"""Layers onto this machine's GPU: a record that grows as it is measured, and result rows from any record."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from measurement.kernels import Kernel, find_kernels
from measurement.measure import Conditions, Machine, Shape, measure
from measurement.problem import kept_of_four
from measurement.records import KEY, Record, read_record, to_frame, write_record
from studies.progress import ProgressLine
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.errors import UserError, unknown
from workloads.files import plain, sha256_of
from workloads.patterns import DENSE
from workloads.rows import to_frame as result_frame

RECORD = "record.csv"
SITUATIONS = ("cold", "warm")
SAME = ("gpu", "torch", "cuda", "cusparselt")  # of the environment: what a record may not mix
WEIGHT_BITS = {"int8": 8, "int8-24": 8, "fp8": 8, "fp8-24": 8, "int4": 4}
NOT_24 = "a mask of 2:4 keeps 2 of 4; give --pattern 2:4, 1:4 or 1:2, or unstructured to see why nothing is faster"


@dataclass(frozen=True)
class Work:
    """What to measure: `layers` as a record's header keeps them, and each distinct shape with its tokens."""

    model: str
    layers: list[dict[str, Any]]
    shapes: list[tuple[Shape, list[int]]]


def open_work(bundle: Path | None, model: str | None, shapes: Sequence[str], pattern: str, tokens: str) -> Work:
    """Exactly one of bundle, model and shapes (each "m,n,k" = tokens, out_features, in_features). Raises UserError."""
    if sum((bundle is not None, model is not None, bool(shapes))) != 1:
        raise UserError("measure: give exactly one of BUNDLE, --model CONFIG and --shapes m,n,k ...; or --replay FILE")
    if bundle is not None:
        masks = MaskBundle.open(bundle)
        layers = [
            {
                **{key: getattr(entry, key) for key in ("name", "role", "block", "out_features", "in_features", "pattern", "nnz")},
                "mask_sha256": entry.sha256, "model": masks.header.model_id, "method": masks.header.method,
                "target_sparsity": masks.header.target_sparsity, "seed": masks.header.seed,
                **({"run_pattern": masks.header.pattern} if entry.pattern != masks.header.pattern else {}),
            }
            for entry in masks.layers
        ]  # fmt: skip
        return _work(masks.header.model_id, layers, whole_list(tokens, "--tokens"))
    kept = kept_of_four(pattern)
    if kept is None and pattern != "unstructured":
        raise UserError(f"--pattern {pattern!r}: {NOT_24}")
    if model is not None:
        model_id, config = resolve_config(model)
        found = [(layer.name, layer.role, layer.block, *layer.shape) for layer in linears_of(config)]
        layers = [_layer(model_id, pattern, kept, *facts) for facts in found]
        return _work(model_id, layers, whole_list(tokens, "--tokens"))
    by_shape: dict[tuple[int, int], list[int]] = {}
    for text in shapes:
        sizes = whole_list(text, "--shapes")
        if len(sizes) != 3:
            raise UserError(f"--shapes {text!r}: three numbers m,n,k, that is tokens,out_features,in_features")
        by_shape.setdefault((sizes[1], sizes[2]), []).append(sizes[0])
    layers = [_layer("shapes", pattern, kept, f"{n}x{k}", "other", -1, n, k) for n, k in by_shape]
    pairs = [(Shape(n, k, pattern), list(dict.fromkeys(some))) for (n, k), some in by_shape.items()]
    return Work("shapes", layers, pairs)


def _work(model: str, layers: list[dict[str, Any]], tokens: list[int]) -> Work:
    distinct = dict.fromkeys(Shape(layer["out_features"], layer["in_features"], layer["pattern"]) for layer in layers)
    return Work(model, layers, [(shape, tokens) for shape in distinct])


def _layer(
    model: str, pattern: str, kept: int | None, name: str, role: str, block: int, n: int, k: int
) -> dict[str, Any]:
    nnz = n * k * kept // 4 if kept else None
    return {
        "name": name, "role": role, "block": block, "out_features": n, "in_features": k, "pattern": pattern, "nnz": nnz,
        "mask_sha256": "", "model": model, "method": "generated", "target_sparsity": None, "seed": 0,
    }  # fmt: skip


def whole_list(text: str, option: str) -> list[int]:
    """ "1,16" -> [1, 16]. Raises UserError for anything but whole numbers from 1, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", part) and 1 <= int(part) <= 1 << 24 for part in parts):
        raise UserError(f"{option} {text!r}: whole numbers from 1 to {1 << 24:,} separated by commas, such as 1,16,64")
    return [int(part) for part in parts]


def open_kernels(names: str) -> list[Kernel]:
    return find_kernels([name.strip() for name in names.split(",") if name.strip()])


def extend_record(
    path: Path,
    work: Work,
    kernels: Sequence[Kernel],
    conditions: Conditions,
    machine: Machine,
    environment: dict[str, Any],
    progress: ProgressLine,
) -> Record:
    """Measures what `path` does not hold yet and writes it after every shape and token count, so that an interrupted run goes on.

    Raises UserError when the file was made on another GPU or with other versions.
    """
    old = read_record(path) if path.exists() else None
    header = {
        "environment": environment,
        "model": work.model,
        "layers": work.layers,
        "conditions": {"runs": conditions.runs, "seed": conditions.seed},
    }
    if old is not None:
        check_same(path, old.header["environment"], environment)
        known = [(layer.get("model"), layer.get("name")) for layer in old.header["layers"]]
        new = [layer for layer in plain(work.layers) if (layer["model"], layer["name"]) not in known]
        models = dict.fromkeys([*str(old.header["model"]).split(" + "), work.model])
        header = {**old.header, "model": " + ".join(models), "layers": [*old.header["layers"], *new]}
    rows: list[dict[str, Any]] = old.frame.to_dict("records") if old is not None else []  # type: ignore[assignment]
    done = {tuple(row[key] for key in KEY) for row in rows}
    record = Record(header, to_frame(rows))
    for more in measure(machine, work.shapes, kernels, conditions, done, progress):
        rows += more
        record = Record(header, to_frame(rows))
        write_record(path, record)
    if len(header["layers"]) != len(old.header["layers"] if old is not None else []):
        write_record(path, record)  # new layers of shapes that were there already
    progress.close()
    return record


def check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in SAME:
        if plain(old.get(key)) != plain(new.get(key)):
            raise UserError(
                f"{path} was measured with {key} {old.get(key)!r}, this machine has {new.get(key)!r}; give another --out"
            )


def replay(path: Path, situation: str) -> pd.DataFrame:
    """Result rows of a record file."""
    return rows_of(read_record(path), situation)


def rows_of(record: Record, situation: str) -> pd.DataFrame:
    """Result rows: every layer of the record at every token count by every kernel, source "measured", level "kernel".

    `latency_us` is the median of the situation ("cold": weights from DRAM, "warm": back to back), `speedup` the dense kernel's median
    over it: same shape, tokens, type and situation. A shape without layers in the header is a row of its own.
    """
    if situation not in SITUATIONS:
        raise unknown("--l2", situation, SITUATIONS)
    cases: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    dense: dict[tuple[Any, ...], float] = {}
    for case in record.frame.to_dict("records"):
        cases.setdefault((case["out_features"], case["in_features"], case["pattern"]), []).append(case)  # type: ignore[arg-type]
        if case["kernel"] == "dense" and case["feasible"]:
            dense[_same_work(case)] = case[f"{situation}_us"]
    layers = {key: [layer for layer in record.header["layers"] if _shape(layer) == key] for key in cases}
    environment = sha256_of(plain(record.header["environment"]))
    rows = []
    for key, group in cases.items():
        kept = kept_of_four(key[2])
        for layer in layers[key] or [_layer("shapes", key[2], kept, f"{key[0]}x{key[1]}", "other", -1, key[0], key[1])]:
            rows += [_row(record, layer, case, dense.get(_same_work(case)), situation, environment) for case in group]
    return result_frame(rows)


def _shape(layer: dict[str, Any]) -> tuple[int, int, str]:
    return layer.get("out_features", 0), layer.get("in_features", 0), layer.get("pattern", "")


def _same_work(case: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(case[key] for key in KEY if key != "kernel")


def _row(
    record: Record,
    layer: dict[str, Any],
    case: dict[str, Any],
    dense_us: float | None,
    situation: str,
    environment: str,
) -> dict[str, Any]:
    feasible, latency_us, nnz = case["feasible"], case[f"{situation}_us"], layer.get("nnz")
    if (
        case["pattern"] == DENSE and not feasible and dense_us
    ):  # left dense: the dense kernel runs it, whatever the others run
        case = case | {"variant": "left dense, the dense kernel", "reason": ""}
        feasible, latency_us = True, dense_us
    settings = f"kernel={case['kernel']} dtype={case['dtype']} l2={situation}"
    return {
        "model": layer.get("model", ""),
        "method": layer.get("method", ""),
        "pattern": layer.get("run_pattern", case["pattern"]),
        "layer_pattern": case["pattern"] if "run_pattern" in layer else "",
        "target_sparsity": layer.get("target_sparsity"),
        "layer": layer.get("name", ""),
        "block": layer.get("block", -1),
        "role": layer.get("role", "other"),
        "out_features": case["out_features"],
        "in_features": case["in_features"],
        "nnz": nnz,
        "sparsity": None if nnz is None else 1 - nnz / (case["out_features"] * case["in_features"]),
        "target": record.gpu,
        "settings": settings + (f" compile={case['compiled']}" if case["compiled"] else ""),
        "level": "kernel",
        "source": "measured",
        "tokens": case["tokens"],
        "activation_density": 1.0,
        "weight_bits": WEIGHT_BITS.get(case["kernel"], 16),
        "latency_us": latency_us if feasible else None,
        "dense_latency_us": dense_us,
        "speedup": dense_us / latency_us if feasible and dense_us else None,
        "kernel": case["kernel"],
        "mapping": case["variant"],
        "clock_mhz": case["sm_mhz"],
        "feasible": feasible,
        "reason": case["reason"],
        "mask_sha256": layer.get("mask_sha256", ""),
        "spec_sha256": environment,
        "seed": layer.get("seed"),
        "tool_version": __version__,
    }


def write_end_to_end(path: Path, environment: dict[str, Any], model: str, rows: Iterable[dict[str, Any]]) -> None:
    """Rows of measurement.blocks with the environment, as JSON; whole after every row, so that a failure keeps what came before."""
    from workloads.files import write_text

    collected: list[Any] = []
    for row in rows:
        collected.append(plain(row))
        content = {
            "format": "prunesim-end-to-end",
            "version": 1,
            "model": model,
            "environment": plain(environment),
            "rows": collected,
        }
        write_text(path, json.dumps(content, indent=None, allow_nan=False) + "\n")
