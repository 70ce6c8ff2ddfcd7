"""Published times that are no GEMMs: single operators and whole models. Tables that ship, listed, shown and replayed
beside the records of GEMMs; operators with what the presets predict for the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from measurement import published_models, published_operators
from measurement.published import OPERATORS, WHOLE_MODELS, Source
from simulator.gpu import GPUS
from studies.inference import INFERENCE_TABLE
from studies.operator_files import operators_of
from studies.predict_operators import OPERATOR_TABLE, predict_operators
from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.rows import to_frame

OPERATOR_COLUMNS = (*OPERATOR_TABLE[:-4], "latency_us", "predicted_us", "predicted_error_p90", "extrapolated")


@dataclass(frozen=True)
class Table:
    """`read` gives the published lines, `rows` those that a replay prints, of which a terminal shows `columns`."""

    what: str
    sources: dict[str, Source]
    read: Callable[[], pd.DataFrame]
    rows: Callable[[], pd.DataFrame]
    columns: tuple[str, ...]


def operator_rows() -> pd.DataFrame:
    """The published operators, `predicted_us` and its error beside each whose card is a preset's."""
    return with_predictions(published_operators.published_operators()).assign(source="published", feasible=True)


def with_predictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Some of the published operators with what the presets of their cards predict of the same kernels."""
    return pd.concat([_beside(rows, str(card)) for card, rows in frame.groupby("target", sort=False)]).sort_index()


def _beside(rows: pd.DataFrame, card: str) -> pd.DataFrame:
    if card not in GPUS:
        return rows
    asked = [name for name in rows.columns if name not in ("target", "latency_us", "published", "of")]
    cells = rows[asked].astype(object).where(rows[asked].notna(), "").astype(str)
    lines = list(enumerate(cells.to_numpy().tolist(), start=1))
    found = predict_operators(operators_of(OPERATORS, asked, lines), [card], "fp16")
    return rows.assign(
        predicted_us=found["latency_us"].to_numpy(),
        predicted_error_p90=found["latency_error_p90"].to_numpy(),
        extrapolated=found["extrapolated"].to_numpy(),
    )


def whole_rows() -> pd.DataFrame:
    return to_frame(published_models.published_rows(), INFERENCE_COLUMNS)


TABLES = {
    OPERATORS: Table(
        "single operators of decoder layers",
        published_operators.SOURCES,
        published_operators.published_operators,
        operator_rows,
        OPERATOR_COLUMNS,
    ),
    WHOLE_MODELS: Table(
        "whole models",
        published_models.SOURCES,
        published_models.published_models,
        whole_rows,
        ("model", *INFERENCE_TABLE),
    ),
}


def summary(name: str) -> str:
    table = TABLES[name]
    frame = table.read()
    cards = ", ".join(dict.fromkeys(frame["target"]))
    return f"{table.what} on {cards}: {len(frame):,} times; {', '.join(table.sources)}"


def described(name: str) -> str:
    """Who measured what, and how far the predictions of single operators are from it."""
    table = TABLES[name]
    frame = table.read()
    lines = [f"{name}: {summary(name)}"]
    lines += [f"published: {source.said}" for source in table.sources.values()]
    if name == OPERATORS:
        return "\n".join([*lines, "the presets were fitted to these very times", *_errors()])
    for model, rows in frame.groupby("model", sort=False):
        cards = ", ".join(f"{card} {len(part)}" for card, part in rows.groupby("target", sort=False))
        lines.append(f"{model}: {cards}")
    return "\n".join(lines)


def _errors() -> Iterator[str]:
    rows = operator_rows()
    rows["what"] = (rows["operation"] + " " + rows["phase"]).str.strip()
    for (card, what), part in rows.groupby(["target", "what"], sort=False):
        known = part[part["predicted_us"].notna()]
        if known.empty:
            yield f"{card}: {what}: {len(part)} times, no preset of that card"
            continue
        error = (known["predicted_us"] / known["latency_us"] - 1).abs().median()
        yield f"{card} predicts {what}: median error {100 * error:.1f} %, of {len(known)}"
