"""Operators of a decoder from a CSV file: a row each, its column `operation` says which, and what it needs stands in
columns of its own; the columns of other operations stay empty."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from simulator.gpu.operators import VALUES_MOVED
from simulator.gpu.sizes import MAX_SIZE
from studies.tables_of_shapes import Line, read_lines, typed, whole_size
from workloads.errors import UserError, meant, unknown

OPERATION = "operation"
LINE = "line"  # and the file; only inside
MOST = {"message_bytes": 1 << 40, "rows": 1 << 31, "cols": 1 << 31, "window": MAX_SIZE}
NONE = ("", "-1", "nan")  # how a cell says that it says nothing


@dataclass(frozen=True)
class Form:
    """What an operation reads: sizes it must have, sizes with what an empty cell means, words that may be empty."""

    sizes: tuple[str, ...]
    optional: Mapping[str, int] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.sizes, *self.optional, *self.words)


_HEADS = ("kv_tokens", "heads", "kv_heads", "head_dim")
FORMS = {
    "attention": Form(("batch", *_HEADS), {"q_tokens": 0, "window": 0, "kv_bits": 16}, ("phase", "dtype", "kernel")),
    "linear": Form(("m", "n", "k"), {"weight_bits": 16, "group_size": 0}, ("dtype", "kernel")),
    **{kind: Form(("cols",), {"tokens": 0, "rows": 0}, ("dtype",)) for kind in VALUES_MOVED},
    "moe": Form(
        ("tokens", "hidden", "expert_ffn", "experts", "top_k"),
        {"distinct_experts": 0, "weight_bits": 16},
        ("routing", "dtype", "kernel"),
    ),
    "all_reduce": Form(("gpus", "message_bytes"), {}, ("dtype", "kernel")),
    "spmv": Form(("rows", "cols"), {}, ("density", "dtype", "kernel")),
}
COLUMNS = tuple(dict.fromkeys(name for form in FORMS.values() for name in form.names))


def is_operators(path: Path) -> bool:
    """Whether a file has operators: a column `operation` that names one of them in some row. Others are GEMMs; raises
    UserError where a name is nearly one."""
    names, lines = read_lines(path, "operators or GEMMs")
    lower = [name.lower() for name in names]
    if OPERATION not in lower:
        return False
    place = lower.index(OPERATION)
    named = [(number, fields[place]) for number, fields in lines if fields[place]]
    if any(name.lower() in FORMS for _, name in named) or not {"m", "n", "k"} <= set(lower):
        return True
    misspelt = [(number, name) for number, name in named if meant(name, FORMS)]
    if misspelt:
        number, name = misspelt[0]
        raise UserError(
            f"{path} line {number}: {unknown(OPERATION, name, FORMS)}; for GEMMs call that column otherwise"
        )
    return False


def read_operators(path: Path) -> pd.DataFrame:
    """A row an operator: the columns of the file, and of COLUMNS what its operation reads parsed (sizes as whole
    numbers, words as texts, what an empty cell means filled in), and `line`.

    Raises UserError naming the file, and the line and column of what is wrong.
    """
    return operators_of(path, *read_lines(path, "operators"))


def operators_of(path: Path | str, names: list[str], lines: list[Line]) -> pd.DataFrame:
    """`read_operators` of lines that come from elsewhere, which messages call `path`."""
    names = [lower if (lower := name.lower()) in (OPERATION, *COLUMNS) else name for name in names]
    rows = [_row(path, dict(zip(names, fields, strict=True)), number) for number, fields in lines]
    frame = typed(names, [fields for _, fields in lines], [name for name in names if name in (OPERATION, *COLUMNS)])
    parsed = pd.DataFrame(rows, columns=[OPERATION, *COLUMNS], dtype=object)
    for name in parsed:
        frame[name] = parsed[name]
    return frame.assign(**{LINE: [f"{path} line {number}" for number, _ in lines]})


def _row(path: Path | str, cells: dict[str, str], number: int) -> dict[str, object]:
    where = f"{path} line {number}"
    kind = cells[OPERATION].lower()
    if kind not in FORMS:
        raise UserError(f"{where}: {unknown(OPERATION, cells[OPERATION], FORMS)}")
    form = FORMS[kind]
    row: dict[str, object] = {OPERATION: kind}
    for name in form.sizes:
        if name not in cells:
            raise UserError(f"{where}: {kind} needs the column {name!r}; it reads {', '.join(form.names)}")
        row[name] = whole_size(cells[name], f"{where}: {name}", most=MOST.get(name, MAX_SIZE))
    for name, empty in form.optional.items():
        cell = cells.get(name, "")
        given = cell.lower() not in NONE
        row[name] = whole_size(cell, f"{where}: {name}", 0, MOST.get(name, MAX_SIZE)) if given else empty
    for name in form.words:
        row[name] = cells.get(name, "")
    unread = {name: cells[name] for name in COLUMNS if name in cells and name not in form.names}
    return {**unread, **_checked(where, kind, row)}


def _checked(where: str, kind: str, row: dict[str, object]) -> dict[str, object]:
    """What one operation asks of its own columns."""
    if kind == "attention":
        phase = str(row["phase"]).lower()
        row["phase"] = "prefill" if phase == "prefill_chunked" else phase  # kv_tokens above q_tokens say the same
        if row["phase"] not in ("prefill", "decode"):
            raise UserError(f"{where}: phase = {row['phase']!r}; attention is in prefill or in decode")
        row["q_tokens"] = row["q_tokens"] or (1 if row["phase"] == "decode" else 0)
        if row["phase"] == "decode" and row["q_tokens"] != 1:
            raise UserError(f"{where}: q_tokens = {row['q_tokens']} in decode; it is 1, more new tokens are prefill")
        if row["phase"] == "prefill" and not row["q_tokens"]:
            raise UserError(f"{where}: q_tokens is empty; attention in prefill needs it")
    elif kind == "linear":
        group = int(str(row["group_size"]))
        if group and int(str(row["k"])) % group:
            raise UserError(f"{where}: group_size = {group} does not divide k = {row['k']}; a divisor, or 0 for a row")
    elif kind in VALUES_MOVED:
        if row["rows"] and row["tokens"]:
            raise UserError(f"{where}: {kind} has both 'rows' and 'tokens', which say the same; leave one empty")
        row["rows"] = row["rows"] or row["tokens"]
        row["tokens"] = row["tokens"] or ""  # empty as it was given
        if not row["rows"]:
            raise UserError(f"{where}: {kind} needs 'rows' or 'tokens'")
    elif kind == "moe":
        row["routing"] = _routing(str(row["routing"]).lower(), bool(row["distinct_experts"]))
    elif kind == "spmv":
        row["density"] = _share(where, str(row["density"]))
    return row


def _share(where: str, cell: str) -> float:
    try:
        share = float(cell)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{where}: density = {cell!r}; spmv needs the share of weights kept, 0 to 1")
    return share


def _routing(name: str, listed: bool) -> str:
    """Also by the words of measured tables: forced is listed, power_law_1.2 is power_law."""
    name = {"forced": "listed"}.get(name, name)
    if name.startswith("power_law"):
        return "power_law"
    return name or ("listed" if listed else "uniform")
