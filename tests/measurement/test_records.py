"""Records: the way there and back, and every kind of damage as one line."""

import json

import numpy as np
import pandas as pd
import pytest

from measurement.kernels import Int8, Int8Sparse24
from measurement.measure import Procedure, measure
from measurement.records import COLUMNS, FORMAT, Record, read_record, to_frame, write_record
from measurement.shapes import Shape
from tests.measurement.stand_ins import FakeCuSparseLt, machine
from workloads.errors import UserError

LAYERS = [
    {
        "name": f"model.layers.{block}.{role}", "role": role, "block": block, "out_features": 64, "in_features": 64,
        "pattern": "2:4", "nnz": 2048, "mask_sha256": "ab", "model": "toy", "method": "wanda", "target_sparsity": 0.5,
        "seed": 7,
    }
    for block in range(2) for role in ("q", "k")
]  # fmt: skip


def example() -> Record:
    """Two shapes, two token counts, three kernels; one case that does not fit."""
    shapes = [(Shape(64, 64, "2:4"), [1, 16]), (Shape(40, 64, "2:4"), [16])]
    rows = list(measure(machine(), shapes, [Int8(), Int8Sparse24(FakeCuSparseLt())], Procedure("fp16")))
    environment = {
        "gpu": "Pretend GPU",
        "torch": "2.13.0",
        "cuda": "13.0",
        "cusparselt": 702,
        "copy_gbps": float("nan"),
    }
    header = {"source": {}, "environment": environment, "model": "toy", "layers": LAYERS, "conditions": {"runs": 50}}
    return Record(header, to_frame([row for some in rows for row in some]))


@pytest.fixture(scope="module")
def record() -> Record:
    return example()


@pytest.fixture
def file(tmp_path, record):
    path = tmp_path / "record.csv"
    write_record(path, record)
    return path


@pytest.mark.parametrize("name", ["record.csv", "record.parquet", "record"])
def test_there_and_back(tmp_path, record, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / name
    write_record(path, record)
    back = read_record(path)
    pd.testing.assert_frame_equal(back.frame, record.frame)
    assert tuple(back.frame.columns) == COLUMNS
    assert back.header["layers"] == LAYERS
    assert back.machine == "Pretend GPU"
    assert not back.frame["feasible"].all()
    first = path.read_bytes()
    write_record(path, back)
    assert path.read_bytes() == first


def test_csv_and_parquet_hold_the_same(tmp_path, record):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    for name in ("a.csv", "a.parquet"):
        write_record(tmp_path / name, record)
    pd.testing.assert_frame_equal(read_record(tmp_path / "a.csv").frame, read_record(tmp_path / "a.parquet").frame)


def test_numbers_that_need_all_their_digits_survive(tmp_path, record):
    frame = record.frame.copy()
    frame.loc[0, ["cold_us", "cold_p10_us", "cold_p90_us"]] = np.nextafter(1 / 3, 1), 1 / 3, 0.1 + 0.3
    write_record(tmp_path / "r.csv", Record(record.header, frame))
    pd.testing.assert_frame_equal(read_record(tmp_path / "r.csv").frame, frame)


def test_a_reason_with_every_kind_of_mark_survives(tmp_path, record):
    frame = record.frame.copy()
    frame.loc[~frame["feasible"], "reason"] = 'NA, "quoted", #5 é; nan'
    write_record(tmp_path / "r.csv", Record(record.header, frame))
    assert 'NA, "quoted", #5 é; nan' in set(read_record(tmp_path / "r.csv").frame["reason"])


def rewritten(path, record, **changes):
    """The file with values of its first row replaced, its hash that of the new table."""
    frame = record.frame.copy().astype(object)
    for column, value in changes.items():
        frame.loc[0, column] = value
    write_record(path, Record(record.header, frame))
    return path


def refused(path) -> str:
    with pytest.raises(UserError) as caught:
        read_record(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def header_of(path) -> tuple[dict, str]:
    first, body = path.read_text().split("\n", 1)
    return json.loads(first[2:]), body


def with_header(path, change) -> None:
    header, body = header_of(path)
    change(header)
    path.write_text(f"# {json.dumps(header)}\n{body}")


def test_files_that_are_not_there_or_not_records(tmp_path):
    assert "no such record" in refused(tmp_path / "none.csv")
    for name, content in {
        "empty.csv": b"", "rows.csv": b"layer,cycles\nq,1\n", "binary.csv": bytes(range(256)),
        "header.csv": b"# {not json\na,b\n",
        "other.csv": b'# {"format": "something"}\na\n1\n', "list.csv": b"# [1]\na\n1\n",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        refused(path)
    assert "no such record" in refused(tmp_path / "none.parquet")


def test_a_folder_is_no_record(tmp_path):
    refused(tmp_path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_cut_csv(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(file)


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_cut_parquet(tmp_path, record, share):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / "r.parquet"
    write_record(path, record)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "Parquet" in refused(path)


def test_parquet_without_our_header(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / "r.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    assert "header" in refused(path)


def test_an_edited_number_shows(file):
    text = file.read_text()
    assert "10.0" in text
    file.write_text(text.replace("10.0", "9.5", 1).replace("9.755", "9.255", 1))
    refused(file)


def test_a_removed_line_shows(file):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert "it was cut or edited" in refused(file)


def test_missing_column(file):
    header, body = header_of(file)
    table = pd.read_csv(pd.io.common.StringIO(body), dtype=str, keep_default_na=False).drop(columns="warm_p90_us")
    file.write_text(f"# {json.dumps(header)}\n{table.to_csv(index=False)}")
    assert "'warm_p90_us'" in refused(file)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda h: h.update(format="x"), FORMAT),
        (lambda h: h.update(version=3), "version 3"),
        (lambda h: h.pop("layers"), "'layers'"),
        (lambda h: h.update(environment={}), "gpu"),
        (lambda h: h.update(environment=3), "gpu"),
        (lambda h: h.update(layers=[1]), "layers"),
        (lambda h: h.update(rows=3), "3 rows"),
        (lambda h: h["environment"].update(gpu="another card"), "edited"),
        (lambda h: h["layers"][0].update(nnz=1), "edited"),
        (lambda h: h.update(sha256="0"), "edited"),
    ],
)
def test_wrong_headers(file, change, word):
    with_header(file, change)
    assert word in refused(file)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cold_us": float("nan")}, "cold_us is no positive number"),
        ({"warm_p10_us": 0.0}, "warm_p10_us is no positive number"),
        ({"cold_us": float("inf"), "cold_p90_us": float("inf")}, "is no positive number"),
        ({"cold_us": -1.0}, "is no positive number"),
        ({"cold_p10_us": 99.0}, "cold percentiles out of order"),
        ({"tokens": 0}, "tokens below 1"),
        ({"tokens": 1.5}, "not of its column's type"),
        ({"cold_us": "fast"}, "not of its column's type"),
        ({"feasible": "maybe"}, "not of its column's type"),
        ({"feasible": False}, "gives no reason"),
        ({"tokens": 16}, "stands twice"),
    ],
)
def test_impossible_values(tmp_path, record, changes, word):
    message = refused(rewritten(tmp_path / "r.csv", record, **changes))
    assert word in message


def test_a_folder_that_cannot_be_written(tmp_path, record):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_record(tmp_path / "file" / "r.csv", record)
