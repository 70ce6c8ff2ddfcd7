"""Reads result rows back and collects what the reader of a report must know."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from measurement.measured_columns import CPU_NOTES
from measurement.measured_columns import NOTES as MEASURED_NOTES
from simulator.accelerators.vitcod.attention.target import TOTAL
from simulator.energy import sources
from simulator.targets import known_target
from studies.left_dense import left_dense_notes
from studies.multiples import multiples_notes
from studies.published import dtype_of, published_notes
from workloads.columns.column import Column
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.columns.layers import LAYER_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.csv_text import check_fields, read_back
from workloads.errors import UserError, one_line
from workloads.layers import ATTENTION_ROLE
from workloads.operations.moves import KINDS
from workloads.parsing import parse_json
from workloads.routing import UNKNOWN
from workloads.rows import in_schema, to_frame, undeclared
from workloads.targets import Target

ROUTED = (
    "Experts ({text}): rows hold what a step takes on average, the probability that an expert gets any token "
    "(executions) times its time with the tokens it then has (layer_tokens); dense baselines likewise."
)
NEEDED = {
    LAYER_COLUMNS: (("model", "method", "layer", "target", "tokens", "speedup"), "simulate or run"),
    QUALITY_COLUMNS: (("model", "method", "sparsity", "perplexity"), "eval or run"),
    INFERENCE_COLUMNS: (("model", "method", "target", "batch", "prompt", "generate", "speedup"), "inference or run"),
    OPERATION_COLUMNS: (("model", "target", "batch", "operation", "role", "share"), "inference or run"),
}
_WORDS = {"int": "a whole number that 64 bits hold", "float": "a number", "bool": "True or False",
          "maybe": "True, False or empty"}  # fmt: skip
_LARGEST = 2**63 - 1024  # the largest float below 2^63
ATTENTION = "masks"  # a column that rows of attention had in earlier versions


def read_rows(path: Path, columns: tuple[Column, ...] = LAYER_COLUMNS) -> pd.DataFrame:
    """Rows written by simulate, eval or run as CSV or JSON, those of earlier versions too: what they lack is empty.
    Columns that none of the schema is (a target's own) stay; the sum of a model's attention, which its verb adds, does
    not. Raises UserError if the file is not one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text; give rows as CSV or JSON, as simulate and run write them") from None
    except OSError as error:
        raise UserError(f"cannot read rows from {path}: {error.strerror or error}") from None
    json = text.lstrip()[:1] in ("[", "{")
    if not json:
        check_fields(path, text)
    try:
        frame = _from_json(text, columns) if json else _from_csv(text, columns)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, csv.Error) as error:
        raise UserError(f"{path} does not hold result rows: {one_line(error)}") from None
    if columns is LAYER_COLUMNS:  # a report has sums of its own
        frame = frame[(frame["role"] != ATTENTION_ROLE) | (frame["layer"] != TOTAL)].reset_index(drop=True)
    return frame


def perplexities_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as `evaluate` gives them, joined or cut by a user. Raises UserError for what is none."""
    try:
        _check_names(list(frame), QUALITY_COLUMNS)
        return in_schema(frame.reset_index(drop=True), QUALITY_COLUMNS, undeclared(frame, QUALITY_COLUMNS))
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"`quality`: {one_line(error)}") from None


def _from_json(text: str, columns: tuple[Column, ...]) -> pd.DataFrame:
    records = parse_json(text)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError("rows in JSON are a list of objects, [{...}, {...}]")
    if records:
        _check_names(list(records[0]), columns)
    extra = undeclared(pd.DataFrame(records, dtype="object"), columns)
    return to_frame(records, columns, extra)


def _from_csv(text: str, columns: tuple[Column, ...]) -> pd.DataFrame:
    header = next(csv.reader(io.StringIO(text)), [])
    _check_names(header, columns)
    # Texts first: what is wrong with a number can then be told, with its line.
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, na_values=[""])
    extra = undeclared(frame, columns)
    kinds = {column.name: column.kind for column in (*columns, *extra)}
    return in_schema(read_back(frame.assign(**{n: _typed(frame[n], kinds[n]) for n in header})), columns, extra)


def _check_names(names: list[str], columns: tuple[Column, ...]) -> None:
    if columns is LAYER_COLUMNS and ATTENTION in names:
        raise UserError("it holds rows of attention of an earlier version; make them anew with `prunesim attention`")
    needed, makers = NEEDED.get(columns, ((), ""))
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"it lacks the column {missing[0]!r}; give a file written by {makers}")


def _typed(texts: pd.Series, kind: str) -> pd.Series:
    """The column as numbers or as yes and no; texts stay. Raises UserError naming the line of the first that is
    neither."""
    if kind == "text":
        return texts
    codes, each = pd.factorize(texts, use_na_sentinel=False)
    if len(each) < len(texts):  # of those alike, which most are, one is read
        made = _typed(pd.Series(each, name=texts.name, index=texts.index[np.unique(codes, return_index=True)[1]]), kind)
        return made.take(codes).set_axis(texts.index)
    if kind in ("bool", "maybe"):
        lower = texts.str.lower()
        wrong, made = ~lower.isin(("true", "false")) & texts.notna(), lower.map({"true": True, "false": False})
    else:
        made = pd.to_numeric(texts, errors="coerce")
        wrong = made.isna() & texts.notna() & (texts.str.lower() != "nan")
        if kind == "int":
            wrong |= made.notna() & ((made % 1 != 0) | (made.abs() > _LARGEST))
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        row = texts.index[place] + 1
        raise UserError(f"row {row}: {texts.name} is {texts.iloc[place]!r}, not {_WORDS[kind]}")
    return made if kind != "int" else _whole(texts, made)


def _whole(texts: pd.Series, made: pd.Series) -> pd.Series:
    """Whole numbers with all their digits, which floats beside missing values lose beyond 2^53."""
    if made.dtype.kind in "iu" or not (made.abs() >= 2**53).any():
        return made.astype("Int64")
    return texts.map(lambda text: pd.NA if pd.isna(text) else int(float(text)) if "." in text else int(text)).astype(
        "Int64"
    )


def constants_for(rows: pd.DataFrame | None) -> pd.DataFrame | None:
    """What the energies and areas in the rows rest on, with sources; None where the rows have none."""
    if rows is None or rows["energy_pj"].isna().all():
        return None
    return pd.DataFrame(sources())


def targets_in(rows: pd.DataFrame, targets: Sequence[Target] = ()) -> list[Target]:
    """The targets of the rows. `targets`: those that are at hand; others are known by the names and types that rows
    have."""
    named = set(rows["target"])
    known = [target for target in targets if target.name in named]
    others = rows[
        ~rows["target"].isin({target.name for target in known}) & rows["source"].isin(["simulated", "predicted"])
    ]
    others = others[["target", "settings"]].drop_duplicates()
    pairs = dict.fromkeys(zip(others["target"], others["settings"].map(dtype_of), strict=True))
    found = (known_target(name, dtype) for name, dtype in pairs)
    known += [target for target in found if target is not None]
    return known


def columns_for(rows: pd.DataFrame | None, targets: Sequence[Target] = ()) -> tuple[Column, ...]:
    """The columns that the targets of the rows have of their own, as they declare them."""
    found = [] if rows is None else targets_in(rows, targets)
    return tuple({column.name: column for target in found for column in target.columns}.values())


def notes_for(rows: pd.DataFrame, targets: Sequence[Target] = ()) -> list[str]:
    """The approximations of every target in the rows (`targets_in`), and of what the rows leave out."""
    known = targets_in(rows, targets)
    notes = list(dict.fromkeys(note for target in known for note in target.notes))
    notes += left_dense_notes(rows) + unmasked_notes(rows) + published_notes(rows) + routing_notes(rows)
    notes += multiples_notes(rows, known)
    notes.append(of_what(set(rows["role"])))
    return notes


def of_what(roles: set[str]) -> str:
    """What rows of these roles time, and what of a model they leave out."""
    moves = {"gathers and scatters": True} if roles & set(KINDS) else {}
    whole = {"the pruned linear layers": True, "attention": ATTENTION_ROLE in roles, **moves, "norms": False,
             "embeddings": False, "output head": "head" in roles}  # fmt: skip
    timed, rest = ([name for name, is_timed in whole.items() if is_timed == wanted] for wanted in (True, False))
    return f"Only {_listed(timed, 'and')} are timed: no {_listed(rest, 'or')}."


def _listed(names: list[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def routing_notes(rows: pd.DataFrame) -> list[str]:
    """What is assumed of a mixture's router, in the words of the rows."""
    notes = [ROUTED.format(text=text) for text in rows["routing"].unique() if text not in ("", UNKNOWN)]
    without = rows["role"].str.startswith("expert_") & rows["routing"].isin(["", UNKNOWN])
    if without.any():
        names = ", ".join(dict.fromkeys(rows.loc[without, "target"]))
        notes.append(
            f"{names}: every expert is timed with all tokens, as no router is known; whole-model sums overstate "
            f"experts."
        )
    return notes


def unmasked_notes(rows: pd.DataFrame) -> list[str]:
    """Where masks were not needed, that; what timings leave out."""
    predicted, notes = rows[rows["source"] == "predicted"], []
    if (predicted["mask_sha256"].fillna("") == "").any():
        notes.append("Masks: none needed, none generated where GPUs alone are asked for generated 2:4 masks.")
    measured = rows[rows["source"] == "measured"]
    on_cpu = measured["settings"].str.contains(r"(?:^|\s)threads=")
    notes += (MEASURED_NOTES if (~on_cpu).any() else ()) + (CPU_NOTES if on_cpu.any() else ())
    return notes
