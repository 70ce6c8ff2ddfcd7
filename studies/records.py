"""Records in a study, and what there is to say of one that ships or lies in a file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from measurement.published import is_name, open_record, source_of
from measurement.records import Record
from measurement.rows import RecordTarget
from measurement.shapes import ANY
from reports.tables.gemms import card_of, is_24
from simulator.gpu import GPUS, load_gpu, predict
from simulator.gpu.prediction import DTYPES
from studies.measure import layers_of_model, replay, replay_for
from studies.study import Study, StudyRecord
from workloads.errors import UserError


def study_rows(study: Study, wanted: StudyRecord) -> pd.DataFrame:
    """Result rows of a record of a study. Raises UserError, which names the study file."""
    beside = study.beside(wanted.record)
    record = wanted.record if is_name(wanted.record) and not beside.exists() else str(beside)
    try:
        if not wanted.models:
            return replay(record, wanted.l2, wanted.dtype)
        frames = []
        for model in (each for each in study.models if each.name in wanted.models):
            _, layers = layers_of_model(study.place_of(model), ANY)
            named = [({**layer, "model": model.name}, wanted.tokens) for layer in layers]
            frames.append(replay_for(record, wanted.l2, named, wanted.dtype))
        return pd.concat(frames, ignore_index=True) if frames else replay(record, wanted.l2).head(0)
    except UserError as error:
        raise UserError(f"{study.path}: {error}") from None


def check_record(what: str | Path) -> str:
    """Reads all of it; what was found, in words. Raises UserError for one that is cut, edited or impossible."""
    record = open_record(what)
    ran = int(record.frame["feasible"].sum())
    text = (
        f"{what}: {len(record.frame):,} cases of {record.machine}, {ran:,} of them ran; header and rows are as written"
    )
    return "\n".join([text, *told(record)])


def told(record: Record) -> Iterator[str]:
    """Who measured, and how far the predictions of the card's preset are from it."""
    source = source_of(record)
    yield f"published: {source.said}" if source else "measured by prunesim on that machine"
    card = card_of(record.machine)
    if card not in GPUS:
        return
    target, gpu = RecordTarget(record, "cold"), load_gpu(card)
    frame = record.frame[record.frame["feasible"] & (record.frame["density"] == 1)]
    for dtype, rows in frame[frame["dtype"].isin(DTYPES)].groupby("dtype", sort=False):
        found = predict(gpu, rows["tokens"], rows["out_features"], rows["in_features"], str(dtype))
        measured = np.array([target.us(case) for case in rows.to_dict("records")])
        for what, chosen, times in (
            ("dense", rows["kernel"] == "dense", found.dense.time_us),
            ("2:4", rows["kernel"].map(is_24), found.sparse24.time_us),
        ):
            errors = np.abs(times[chosen.to_numpy()] / measured[chosen.to_numpy()] - 1)
            if len(errors):
                yield f"{card} predicts {what} {dtype}: median error {100 * np.median(errors):.1f} %, of {len(errors)}"


def summary(name: str) -> str:
    """Of a record that ships, for a list."""
    record = open_record(name)
    source, frame = source_of(record), record.frame
    kernels, types = " ".join(dict.fromkeys(frame["kernel"])), " ".join(dict.fromkeys(frame["dtype"]))
    return f"{record.machine}: {len(frame):,} times, {kernels}, {types}; {source.citation if source else ''}"


def described(name: str) -> str:
    record = open_record(name)
    shapes = record.frame[["out_features", "in_features"]].drop_duplicates()
    sizes = ", ".join(f"{rows} x {cols}" for rows, cols in shapes.itertuples(index=False))
    tokens = ", ".join(f"{count:,}" for count in sorted(record.frame["tokens"].unique()))
    return "\n".join([summary(name), *told(record), f"tokens: {tokens}", f"outputs x inputs: {sizes}"])
