"""A record: what was measured on one GPU or CPU, with what it takes to believe it. One CSV or Parquet file.

CSV (also gzipped, .csv.gz): the first line is "# " and a JSON object, the header; then one line a case. Parquet (needs
pyarrow): the same JSON in the file's metadata under "prunesim". The header holds `format`, `version`, `rows`, `sha256`
of the table (so a cut or edited file shows), `source` ({}, or who published it: published.py), `environment`
(environment.py, cpu/host.py), `model`, `layers` (name, role, block, shape and pattern of every linear the shapes stand
for) and `conditions`. Times are raw: every sample is kept, in us, separated by spaces.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workloads.errors import UserError, one_line
from workloads.files import plain, replacing, sha256_of
from workloads.parsing import parse_json

FORMAT = "prunesim-gpu-record"
VERSION = 2
TEXTS = (
    "kernel",
    "dtype",
    "pattern",
    "compiled",
    "reason",
    "variant",
    "warm_how",
    "cold_samples_us",
    "warm_samples_us",
)
SITUATIONS = ("cold", "warm")
WHOLE = ("out_features", "in_features", "tokens")
TIMES = ("cold_us", "cold_p10_us", "cold_p90_us", "warm_us", "warm_p10_us", "warm_p90_us")
FLOATS = ("density", "error", *TIMES, "sm_mhz", "power_w", "temperature_c", "load_average")
COLUMNS = (
    *WHOLE, "kernel", "dtype", "pattern", "density", "compiled", "feasible", "reason", "variant", "error", *TIMES,
    "warm_how", "sm_mhz", "power_w", "temperature_c", "load_average", "cold_samples_us", "warm_samples_us",
)  # fmt: skip
KEY = ("out_features", "in_features", "tokens", "kernel", "dtype", "pattern", "density", "compiled")
HEADER_KEYS = ("format", "version", "rows", "sha256", "source", "environment", "model", "layers", "conditions")


@dataclass(frozen=True)
class Record:
    """`header`: environment, model, layers, conditions. `frame`: COLUMNS, one row a case."""

    header: dict[str, Any]
    frame: pd.DataFrame

    @property
    def machine(self) -> str:
        """The GPU's name, or the CPU's."""
        environment = self.header["environment"]
        return str(environment.get("gpu") or environment["cpu"])

    @property
    def situations(self) -> tuple[str, ...]:
        """Those that it has times of."""
        ran = self.frame[self.frame["feasible"]]
        return tuple(name for name in SITUATIONS if ran.empty or ran[f"{name}_us"].notna().any())

    @property
    def on_cpu(self) -> bool:
        return not self.header["environment"].get("gpu")


def to_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of measure.py with the record's columns and types."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for name in WHOLE:
        frame[name] = frame[name].astype("int64")
    for name in FLOATS:
        frame[name] = frame[name].astype("float64")
    for name in TEXTS:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), "").astype(str)
    frame["feasible"] = [_truth(value) for value in frame["feasible"]]
    frame["feasible"] = frame["feasible"].astype(bool)
    return frame


def _truth(value: Any) -> bool:
    """A CSV file has words. Raises ValueError for anything else than true and false."""
    if str(value) not in ("True", "False"):
        raise ValueError(f"feasible is True or False, not {value!r}")
    return str(value) == "True"


def write_record(path: Path, record: Record) -> None:
    """Whole or not at all; Parquet where the name ends in .parquet, else CSV. Raises UserError."""
    body = _csv(record.frame)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "rows": len(record.frame),
        **{key: plain(record.header[key]) for key in ("source", "environment", "model", "layers", "conditions")},
    }
    header["sha256"] = _sealed(header, _digest(body))
    text = json.dumps(header, ensure_ascii=True, allow_nan=False)
    if path.suffix == ".parquet":
        pyarrow, parquet = _pyarrow(path)
        table = pyarrow.Table.from_pandas(record.frame, preserve_index=False).replace_schema_metadata(
            {"prunesim": text}
        )
        with replacing(path) as part:
            parquet.write_table(table, part)
    else:
        content = f"# {text}\n{body}".encode()
        with replacing(path) as part:
            part.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_record(path: Path) -> Record:
    """Raises UserError, one line, for a file that is absent, cut, edited, of another format, or holds impossible
    numbers."""
    if not path.exists():
        raise UserError(f"no such record: {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the record in it, {path / 'record.csv'}")
    try:
        text, table, digest = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    header = _header(path, text)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(f"{path}: a record has the column {missing[0]!r}, this file lacks it; measure again")
    if len(table) != header["rows"]:
        raise UserError(
            f"{path}: the header says {header['rows']} rows, the file has {len(table)}; it was cut or edited"
        )
    try:
        frame = to_frame(table.to_dict("records"))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a value is not of its column's type: {one_line(error)}") from None
    _check_values(path, frame, bool(header["source"]))
    if _sealed(header, digest or _digest(_csv(frame))) != header["sha256"]:
        raise UserError(f"{path}: header and rows are not as they were written; the file was edited, measure again")
    return Record(
        {key: header[key] for key in HEADER_KEYS if key not in ("format", "version", "rows", "sha256")}, frame
    )


def _sealed(header: dict[str, Any], rows_sha256: str) -> str:
    """Hash of a header, whatever it says of its own hash, and of the rows."""
    return sha256_of([{key: value for key, value in header.items() if key != "sha256"}, rows_sha256])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, columns=list(COLUMNS), lineterminator="\n")


def _read_csv(path: Path) -> tuple[str, pd.DataFrame, str]:
    """(header, table, hash of the table's text)."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    first, _, body = text.partition("\n")
    if not first.startswith("# {"):
        raise UserError(f"{path}: not a record: the first line must be '# ' and a JSON header")
    try:
        table = pd.read_csv(io.StringIO(body), dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors among them
        raise UserError(f"{path}: the table below the header cannot be read: {one_line(error)}") from None
    for name in FLOATS:
        if name in table:
            table[name] = table[name].replace("", "nan")
    return first[2:], table, _digest(body)


def _read_parquet(path: Path) -> tuple[str, pd.DataFrame, str]:
    pyarrow, parquet = _pyarrow(path)
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a whole Parquet file: {one_line(error)}") from None
    return (table.schema.metadata or {}).get(b"prunesim", b"").decode(), table.to_pandas(), ""


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: Parquet needs pyarrow; install the extra `parquet`, or let the name end in .csv"
        ) from None
    return pyarrow, pyarrow.parquet


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: the header is not JSON: {one_line(error)}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path}: the header does not say format {FORMAT!r}; this is no record")
    if header.get("version") != VERSION:
        raise UserError(
            f"{path}: version {header.get('version')!r}, this program reads {VERSION}; use the version that wrote it"
        )
    missing = [key for key in HEADER_KEYS if key not in header]
    if missing:
        raise UserError(f"{path}: the header lacks {missing[0]!r}")
    if not isinstance(header["environment"], dict) or not (
        header["environment"].get("gpu") or header["environment"].get("cpu")
    ):
        raise UserError(f"{path}: the header's environment names neither a gpu nor a cpu")
    if not isinstance(header["layers"], list) or not all(isinstance(layer, dict) for layer in header["layers"]):
        raise UserError(f"{path}: the header's layers must be a list of objects")
    return header


def _check_values(path: Path, frame: pd.DataFrame, published: bool) -> None:
    """Published times are of one situation, and of the middle alone."""

    def refuse(rows: Sequence[bool] | pd.Series, what: str) -> None:
        wrong = np.flatnonzero(np.asarray(rows))
        if len(wrong):
            row = frame.iloc[wrong[0]]
            name = f"{row['kernel']} {row['out_features']}x{row['in_features']}, {row['tokens']} tokens"
            raise UserError(f"{path}: row {wrong[0] + 1} ({name}) {what}")

    for column in WHOLE:
        refuse(frame[column] < 1, f"has {column} below 1")
    refuse(~frame["density"].between(0, 1, inclusive="right"), "has a density outside 0..1")
    ran = frame["feasible"]
    there = [name for name in SITUATIONS if not published or frame[f"{name}_us"].notna().any()]
    for column in TIMES if not published else [f"{name}_us" for name in there]:
        refuse(
            ran & ~(np.isfinite(frame[column]) & (frame[column] > 0)), f"ran, but its {column} is no positive number"
        )
    refuse(~ran & (frame["reason"] == ""), "did not run and gives no reason")
    for situation in there if not published else ():
        ordered = (frame[f"{situation}_p10_us"] <= frame[f"{situation}_us"]) & (
            frame[f"{situation}_us"] <= frame[f"{situation}_p90_us"]
        )
        refuse(ran & ~ordered, f"has {situation} percentiles out of order")
    refuse(frame.duplicated(list(KEY)), "stands twice")
