"""Layers onto this machine's GPU: a record that grows as it is measured, and result rows from any record."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from measurement.kernels import Kernel, find_kernels
from measurement.measure import Device, Procedure, Shape, measure
from measurement.records import KEY, Record, read_record, to_frame, write_record
from measurement.rows import RecordTarget, shape_alone
from studies.progress import ProgressLine
from workloads.bundle import MaskBundle
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.files import check_writable_folder, plain, write_text
from workloads.locking import writing
from workloads.operations import Linear
from workloads.operations import linears_of as linears_of_bundle
from workloads.patterns import kept_of_four
from workloads.rows import to_frame as result_frame

RECORD, ROWS = "record.csv", "rows.csv"
SAME = ("gpu", "torch", "cuda", "cusparselt")  # of the environment: what a record may not mix
NOT_24 = "a mask of 2:4 keeps 2 of 4; give `pattern` 2:4, 1:4 or 1:2, or unstructured to see why nothing is faster"


@dataclass(frozen=True)
class MeasurementJob:
    """What to measure: `layers` as a record's header keeps them, and each distinct shape with its tokens."""

    model: str
    layers: list[dict[str, Any]]
    shapes: list[tuple[Shape, list[int]]]


def open_job(
    bundle: Path | None, model: str | None, shapes: Sequence[str], pattern: str, tokens: str
) -> MeasurementJob:
    """Exactly one of bundle, model and shapes (each "m,n,k" = tokens, out_features, in_features). Raises UserError."""
    if sum((bundle is not None, model is not None, bool(shapes))) != 1:
        raise UserError("give exactly one of `bundle`, `model` and `shapes`, or `replay` for a record")
    if bundle is not None:
        masks = MaskBundle.open(bundle)
        runs = [each for linear in linears_of_bundle(masks) if not linear.is_gone for each in _runs(linear)]
        layers = [
            {
                **{key: getattr(linear, key) for key in ("name", "role", "block", "out_features", "in_features")},
                "pattern": linear.weights.pattern, "nnz": linear.weights.nnz,
                "mask_sha256": linear.weights.sha256, "model": masks.header.model_id, "method": masks.header.method,
                "target_sparsity": masks.header.target_sparsity, "seed": masks.header.seed,
                **({"run_pattern": masks.header.pattern} if linear.weights.pattern != masks.header.pattern else {}),
            }
            for linear in runs
        ]  # fmt: skip
        return _job(masks.header.model_id, layers, whole_list(tokens, "`tokens`"))
    if kept_of_four(pattern) is None and pattern != "unstructured":
        raise UserError(f"`pattern` {pattern!r}: {NOT_24}")
    if model is not None:
        model_id, config = resolve_config(model)
        found = linears_of(config)
        layers = [shape_alone(model_id, pattern, *layer.shape, layer.name, layer.role, layer.block) for layer in found]
        return _job(model_id, layers, whole_list(tokens, "`tokens`"))
    by_shape: dict[tuple[int, int], list[int]] = {}
    for text in shapes:
        sizes = whole_list(text, "`shapes`")
        if len(sizes) != 3:
            raise UserError(f"`shapes` {text!r}: three numbers m,n,k, that is tokens,out_features,in_features")
        by_shape.setdefault((sizes[1], sizes[2]), []).append(sizes[0])
    layers = [shape_alone("shapes", pattern, n, k) for n, k in by_shape]
    pairs = [(Shape(n, k, pattern), list(dict.fromkeys(some))) for (n, k), some in by_shape.items()]
    return MeasurementJob("shapes", layers, pairs)


def _runs(linear: Linear) -> list[Linear]:
    """A layer; of a product of factors the unpruned layer and a block of each factor, under names of their own."""
    named = zip(("first", "second"), linear.parts, strict=False)
    parts = [replace(part, name=f"{linear.name}.{which}") for which, (_, part) in named]
    return [linear.before(), *parts] if parts else [linear]


def _job(model: str, layers: list[dict[str, Any]], tokens: list[int]) -> MeasurementJob:
    distinct = dict.fromkeys(Shape(layer["out_features"], layer["in_features"], layer["pattern"]) for layer in layers)
    return MeasurementJob(model, layers, [(shape, tokens) for shape in distinct])


def whole_list(text: str, setting: str) -> list[int]:
    """ "1,16" -> [1, 16]. Raises UserError for anything but whole numbers from 1, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", part) and 1 <= int(part) <= 1 << 24 for part in parts):
        raise UserError(f"{setting} {text!r}: whole numbers from 1 to {1 << 24:,} separated by commas, such as 1,16,64")
    return [int(part) for part in parts]


def open_kernels(names: str) -> list[Kernel]:
    return find_kernels([name.strip() for name in names.split(",") if name.strip()])


def extend_record(
    path: Path,
    job: MeasurementJob,
    kernels: Sequence[Kernel],
    procedure: Procedure,
    device: Device,
    environment: dict[str, Any],
    progress: ProgressLine,
) -> Record:
    """Measures what `path` does not hold yet and writes it after every shape and token count, so that an interrupted
    run goes on.

    Raises UserError when the file was made on another GPU or with other versions.
    """
    old = read_record(path) if path.exists() else None
    header = {
        "environment": environment,
        "model": job.model,
        "layers": job.layers,
        "conditions": {"runs": procedure.runs, "seed": procedure.seed},
    }
    if old is not None:
        check_same(path, old.header["environment"], environment)
        known = [(layer.get("model"), layer.get("name")) for layer in old.header["layers"]]
        new = [layer for layer in plain(job.layers) if (layer["model"], layer["name"]) not in known]
        models = dict.fromkeys([*str(old.header["model"]).split(" + "), job.model])
        header = {**old.header, "model": " + ".join(models), "layers": [*old.header["layers"], *new]}
    rows: list[dict[str, Any]] = old.frame.to_dict("records") if old is not None else []  # type: ignore[assignment]
    done = {tuple(row[key] for key in KEY) for row in rows}
    record = Record(header, to_frame(rows))
    for more in measure(device, job.shapes, kernels, procedure, done, progress):
        rows += more
        record = Record(header, to_frame(rows))
        write_record(path, record)
    if len(header["layers"]) != len(old.header["layers"] if old is not None else []):
        write_record(path, record)  # new layers of shapes that were there already
    progress.close()
    return record


def measured(
    job: MeasurementJob,
    kernels: Sequence[Kernel],
    procedure: Procedure,
    situation: str,
    out: Path,
    progress: ProgressLine,
) -> pd.DataFrame:
    """Result rows of what this machine's GPU takes now, and took before: the record in `out` grows. Raises UserError
    where that is of another machine."""
    from measurement.environment import describe
    from measurement.measure import cuda_device

    check_writable_folder(out)
    device = cuda_device()
    environment = describe(device.clock)
    with writing(out):
        record = extend_record(out / RECORD, job, kernels, procedure, device, environment, progress)
        frame = result_frame(RecordTarget(record, situation).every_row())
        write_text(out / ROWS, csv_text(frame))
    return frame


def check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in SAME:
        if plain(old.get(key)) != plain(new.get(key)):
            raise UserError(
                f"{path} was measured with {key} {old.get(key)!r}, this machine has {new.get(key)!r}; give another "
                f"`out`"
            )


def replay(path: Path, situation: str) -> pd.DataFrame:
    """Result rows of a record file: every layer at every token count by every kernel."""
    return result_frame(RecordTarget(read_record(path), situation).every_row())


def write_end_to_end(path: Path, environment: dict[str, Any], model: str, rows: Iterable[dict[str, Any]]) -> None:
    """Rows of measurement.blocks with the environment, as JSON; whole after every row, so that a failure keeps what
    came before."""
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
