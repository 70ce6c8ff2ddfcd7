"""docs/formats.md says every key and column that files have."""

import dataclasses
import re

import pandas as pd
import pytest

from measurement import records
from simulator.machine import parts
from studies.predict import predict_frame
from tests.column_tables import PAGE, REGION, schemas, with_tables
from workloads.bundle import VERSION, BundleFile, BundleHeader, LayerEntry

TEXT = PAGE.read_text(encoding="utf-8")


def section(heading: str) -> str:
    return TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_tables_of_columns_are_those_of_the_code() -> None:
    assert with_tables(TEXT) == TEXT, "columns changed: python -m tests.column_tables"


def test_every_table_of_columns_is_there() -> None:
    assert {found[2] for found in REGION.finditer(TEXT)} == set(schemas())


@pytest.mark.parametrize("part", [BundleFile, BundleHeader, LayerEntry])
def test_bundle_keys(part: type) -> None:
    assert {field.name for field in dataclasses.fields(part)} <= names(section("A mask bundle"))
    assert f"version {VERSION}" in TEXT


def test_columns_of_predictions() -> None:
    found = predict_frame(pd.DataFrame({"m": [64], "n": [256], "k": [256]}), "a100-pcie", "fp16", [])
    assert set(found.columns) <= names(section("Result rows"))


def test_record_keys_and_columns() -> None:
    assert {*records.HEADER_KEYS, *records.COLUMNS} <= names(section("A record of a GPU or a CPU"))
    assert f"`{records.FORMAT}`, {records.VERSION}" in TEXT


@pytest.mark.parametrize(
    "part", [parts.Clock, parts.Buffers, parts.Dram, parts.Number, parts.Mapping, parts.EnergySpec]
)
def test_machine_keys(part: type) -> None:
    shown = names(section("A machine"))
    for field in dataclasses.fields(part):
        assert field.name in shown or field.name.endswith("_bytes_per_cycle"), field.name
