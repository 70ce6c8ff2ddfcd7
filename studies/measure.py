"""Layers onto this machine's GPU or CPU: a record that grows as it is measured, and result rows from any record."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from measurement.layer_facts import density_of, shape_alone
from measurement.layer_uses import merged, tokens_of, used
from measurement.lookup import rows_for
from measurement.noise import NOISY
from measurement.published import open_record
from measurement.records import KEY, Record, read_record, to_frame, write_record
from measurement.rows import DENSITY_DIGITS, RecordTarget
from measurement.shapes import ANY, Shape
from studies.progress import ProgressLine
from workloads.bundle import MaskBundle
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.files import check_writable_folder, plain, write_text
from workloads.locking import writing
from workloads.operations import Linear
from workloads.operations import linears_of as linears_of_bundle
from workloads.patterns import DENSE, kept_of_four
from workloads.rows import to_frame as result_frame
from workloads.uses import uses_of

if TYPE_CHECKING:  # they need torch
    from measurement.cpu.kernels import CpuKernel
    from measurement.cpu.measure import CpuProcedure
    from measurement.kernels import Kernel
    from measurement.measure import Procedure

RECORD, ROWS = "record.csv", "rows.csv"
SAME = ("gpu", "cpu", "threads", "torch", "cuda", "cusparselt")  # of the environment: what a record may not mix
NOT_24 = "a mask of 2:4 keeps 2 of 4; give `pattern` 2:4, 1:4 or 1:2, or unstructured to see why nothing is faster"


@dataclass(frozen=True)
class MeasurementJob:
    """What to measure: `layers` as a record's header keeps them, and each distinct shape with its tokens."""

    model: str
    layers: list[dict[str, Any]]
    shapes: list[tuple[Shape, list[int]]]

    def layers_with_tokens(self) -> list[tuple[dict[str, Any], Sequence[int]]]:
        tokens = {(shape.out_features, shape.in_features): some for shape, some in self.shapes}
        return [
            (layer, layer.get("samples") or tokens[layer["out_features"], layer["in_features"]])
            for layer in self.layers
        ]


def open_job(
    bundle: Path | None,
    model: str | None,
    shapes: Sequence[str],
    pattern: str,
    tokens: str,
    densities: Sequence[float] | None = None,
) -> MeasurementJob:
    """Exactly one of bundle, model and shapes (each "m,n,k" = tokens, out_features, in_features). `densities`: where
    times depend on them: the shares kept of model and shapes, whose pattern then is ANY, and for a bundle its own.
    `tokens` of a network's bundle are samples, of which each layer makes tokens of its own. Raises UserError."""
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
                **({"unpruned": linear.unpruned} if linear.unpruned else {}),
            }
            for linear in runs
        ]  # fmt: skip
        samples = whole_list(tokens, "`tokens`")
        if uses_of(masks.header.model_config):
            layers = [used(layer, linear.use, samples) for layer, linear in zip(layers, runs, strict=True)]
        return _job(masks.header.model_id, layers, samples, [1.0] if densities is None else [])
    densities = densities or [1.0]
    if kept_of_four(pattern) is None and pattern not in ("unstructured", ANY):
        raise UserError(f"`pattern` {pattern!r}: {NOT_24}")
    if model is not None:
        model_id, layers = layers_of_model(model, pattern)
        return _job(model_id, layers, whole_list(tokens, "`tokens`"), densities)
    by_shape: dict[tuple[int, int], list[int]] = {}
    for text in shapes:
        sizes = whole_list(text, "`shapes`", "16,4096,4096 (m,n,k, that is tokens,out_features,in_features)")
        if len(sizes) != 3:
            raise UserError(f"`shapes` {text!r}: three numbers m,n,k, that is tokens,out_features,in_features")
        by_shape.setdefault((sizes[1], sizes[2]), []).append(sizes[0])
    layers = [shape_alone("shapes", pattern, n, k) for n, k in by_shape]
    pairs = [
        (Shape(n, k, pattern, density), list(dict.fromkeys(some)))
        for (n, k), some in by_shape.items()
        for density in densities
    ]
    return MeasurementJob("shapes", layers, pairs)


def _runs(linear: Linear) -> list[Linear]:
    """A layer; of a product of factors the unpruned layer and a block of each factor, under names of their own."""
    named = zip(("first", "second"), linear.parts, strict=False)
    parts = [replace(part, name=f"{linear.name}.{which}") for which, (_, part) in named]
    return [linear.before(), *parts] if parts else [linear]


def _job(model: str, layers: list[dict[str, Any]], tokens: list[int], densities: Sequence[float]) -> MeasurementJob:
    """Each distinct shape, and the unpruned ones of layers that became smaller. `densities`: of every shape; of none
    each layer's own."""
    distinct: dict[Shape, dict[int, None]] = {}
    for layer in layers:
        rows, cols, pattern = layer["out_features"], layer["in_features"], layer["pattern"]
        for density in densities or [round(density_of(layer), DENSITY_DIGITS)]:
            distinct.setdefault(Shape(rows, cols, pattern, density), {}).update(dict.fromkeys(tokens_of(layer, tokens)))
    for layer in (layer for layer in layers if "unpruned" in layer):
        rows, cols = layer["unpruned"]
        distinct.setdefault(Shape(rows, cols, DENSE), {}).update(dict.fromkeys(tokens_of(layer, tokens)))
    return MeasurementJob(model, layers, [(shape, list(own)) for shape, own in distinct.items()])


def whole_list(text: str, setting: str, such_as: str = "1,16,64") -> list[int]:
    """ "1,16" -> [1, 16]. Raises UserError for anything but whole numbers from 1, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", part) and 1 <= int(part) <= 1 << 24 for part in parts):
        raise UserError(
            f"{setting} {text!r}: whole numbers from 1 to {1 << 24:,} separated by commas, such as {such_as}"
        )
    return [int(part) for part in parts]


def names_in(text: str) -> list[str]:
    """ "dense, int8" -> ["dense", "int8"]."""
    return [name.strip() for name in text.split(",") if name.strip()]


def extend_record(
    path: Path,
    job: MeasurementJob,
    conditions: dict[str, Any],
    environment: dict[str, Any],
    missing: Callable[[set[tuple[Any, ...]]], Iterable[list[dict[str, Any]]]],
) -> Record:
    """Measures what `path` does not hold yet and writes it after every shape and token count, so that an interrupted
    run goes on. `missing`: keys that are there -> rows of the others, and of those that it measured again.

    Raises UserError when the file was made on another machine or with other versions.
    """
    old = read_record(path) if path.exists() else None
    header = {
        "source": {},
        "environment": environment,
        "model": job.model,
        "layers": job.layers,
        "conditions": conditions,
    }
    if old is not None:
        check_same(path, old.header["environment"], environment)
        models = dict.fromkeys([*str(old.header["model"]).split(" + "), job.model])
        header = {**old.header, "model": " + ".join(models), "layers": merged(old.header["layers"], plain(job.layers))}
    before: list[dict[str, Any]] = old.frame.to_dict("records") if old is not None else []  # type: ignore[assignment]
    rows = {tuple(row[key] for key in KEY): row for row in before}
    record = Record(header, to_frame(rows.values()))
    for more in missing({key for key, row in rows.items() if not row["reason"].startswith(NOISY)}):
        rows |= {tuple(row[key] for key in KEY): row for row in more}
        record = Record(header, to_frame(rows.values()))
        write_record(path, record)
    if header["layers"] != (old.header["layers"] if old is not None else []):
        write_record(path, record)  # new layers, or samples, of shapes and tokens that were there already
    return record


def measured(
    job: MeasurementJob,
    kernels: "Sequence[Kernel]",
    procedure: "Procedure",
    situation: str,
    out: Path,
    progress: ProgressLine,
) -> pd.DataFrame:
    """Result rows of what this machine's GPU takes now, and took before: the record in `out` grows. Raises UserError
    where that is of another machine."""
    from measurement.environment import describe
    from measurement.measure import cuda_device, measure

    check_writable_folder(out)
    device = cuda_device()
    environment = describe(device.clock)
    conditions = {"runs": procedure.runs, "seed": procedure.seed}
    with writing(out):
        record = extend_record(
            out / RECORD, job, conditions, environment,
            lambda done: measure(device, job.shapes, kernels, procedure, done, progress),
        )  # fmt: skip
        return _written(record, situation, out, progress)


def measured_on_cpu(
    job: MeasurementJob,
    kernels: "Sequence[CpuKernel]",
    procedure: "CpuProcedure",
    situation: str,
    out: Path,
    progress: ProgressLine,
) -> pd.DataFrame:
    """The same of this machine's CPU."""
    from measurement.cpu import host
    from measurement.cpu.clock import HostClock, pinned
    from measurement.cpu.measure import measure

    host.check_threads(procedure.threads)
    check_writable_folder(out)
    clock = HostClock(host.last_cache_bytes())
    conditions = {"rounds": procedure.rounds, "seed": procedure.seed, "spread": procedure.spread}
    with writing(out), pinned(procedure.threads) as cores:
        record = extend_record(
            out / RECORD, job, conditions, host.describe(clock, procedure.threads, cores),
            lambda done: measure(clock, job.shapes, kernels, procedure, done, progress),
        )  # fmt: skip
        return _written(record, situation, out, progress)


def _written(record: Record, situation: str, out: Path, progress: ProgressLine) -> pd.DataFrame:
    progress.close()
    frame = rows_of(record, situation)
    write_text(out / ROWS, csv_text(frame))
    return frame


def rows_of(record: Record, situation: str) -> pd.DataFrame:
    target = RecordTarget(record, situation)
    return result_frame(target.every_row(), extra=target.columns)


def check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in SAME:
        if plain(old.get(key)) != plain(new.get(key)):
            raise UserError(
                f"{path} was measured with {key} {old.get(key)!r}, this machine has {new.get(key)!r}; give another "
                f"`out`"
            )


def replay(record: str | Path, situation: str, dtype: str = "") -> pd.DataFrame:
    """Result rows of a record, a file or the name of one that ships: every layer at every token count by every
    kernel."""
    opened = open_record(record)
    types = list(dict.fromkeys(opened.frame["dtype"]))
    if dtype and dtype not in types:
        raise UserError(f"`dtype` {dtype!r}: {opened.machine} was measured in {', '.join(types)}; give one of these")
    frame = rows_of(opened, situation)
    return (
        frame[frame["settings"].str.contains(f"dtype={dtype} ", regex=False)].reset_index(drop=True) if dtype else frame
    )


def layers_of_model(model: str, pattern: str) -> tuple[str, list[dict[str, Any]]]:
    """(its id, its linears with a pattern on them) of whatever checkpoints/catalog.py takes for a model. Raises
    UserError."""
    model_id, config = resolve_config(model)
    found = linears_of(config)
    return model_id, [
        shape_alone(model_id, pattern, *layer.shape, layer.name, layer.role, layer.block) for layer in found
    ]


def replay_for(
    record: str | Path, situation: str, layers: Sequence[tuple[dict[str, Any], Sequence[int]]], dtype: str = ""
) -> pd.DataFrame:
    """What a record has of these layers, each at its token counts (measurement/lookup.py)."""
    target = RecordTarget(open_record(record), situation)
    return result_frame(rows_for(target, layers, dtype), extra=target.columns)
