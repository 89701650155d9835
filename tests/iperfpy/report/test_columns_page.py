"""docs/columns.md explains every column of the table, and every key that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iperfpy.protocols.registry import transports
from iperfpy.records import Latency
from iperfpy.report.columns import columns_for
from iperfpy.report.csv_report import BASE

PAGE = (Path(__file__).parents[3] / "docs" / "columns.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| column", "| key"))
]


@pytest.mark.parametrize("name", transports())
def test_every_column_of_a_table_is_on_the_page(name: str) -> None:
    explained = {title.partition("(")[0] for row in ROWS for title in re.split(r", ", row[0])}
    for column in columns_for(transports()[name].metrics):
        assert column.words[0] in explained
        assert all(f"`{key}`" in PAGE for key in column.keys.split(", "))


def test_every_key_on_the_page_exists() -> None:
    known = {key for one in transports().values() for metric in one.metrics for key in metric.keys}
    known |= {*BASE, *Latency().record()}
    named = {key for row in ROWS for cell in row[:2] for key in re.findall(r"`([a-z_]+)`", cell)}
    assert len(named) > 20
    assert named <= known
