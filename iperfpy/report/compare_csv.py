"""The CSV of a comparison: a row for each test, in the order in which they ran. Empty: not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from iperfpy.comparison.comparison_report import ComparisonReport, MeasuredTest
from iperfpy.store.run_index import time_text

PERCENTILES = ("p5", "p50", "p95", "max")
COMPARISON = ("time", "host", "port", "seed")
"""Columns that are the same for all tests of a comparison; `time` is the beginning of the comparison."""
OWN = tuple(
    item.name for item in fields(MeasuredTest) if item.name not in ("rtt_us", "limit", "series", "error")
)
"""Columns with the name of a field of `MeasuredTest`."""


def header() -> list[str]:
    """The titles of the columns."""
    return [*COMPARISON, *OWN, *(f"rtt_us_{key}" for key in PERCENTILES), "limit", "error"]


def rows(report: ComparisonReport) -> Iterator[list[str]]:
    """The cells of each test."""
    same = [time_text(report.unix_time), report.host, str(report.port), str(report.seed)]
    for one in report.tests:
        cells = [_cell(getattr(one, name)) for name in OWN]
        cells += [_cell(one.rtt_us.get(key)) for key in PERCENTILES]
        limit = one.limit.cause.value if one.limit is not None else ""
        yield [*same, *cells, limit, one.error]


def _cell(value: object) -> str:
    """A figure as text: an enumeration by its value, nothing for None."""
    if value is None:
        return ""
    return str(getattr(value, "value", value))
