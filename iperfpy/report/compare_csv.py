"""The CSV of a comparison: a row for each test, of bulk data or of messages, in the order in which they ran.

Both kinds have the same columns, so that one call reads the file. A cell is empty if its figure is not known,
or belongs to the other kind. docs/columns.md explains the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from iperfpy.comparison.comparison_report import (
    COLUMNS,
    ComparisonReport,
    ContenderFacts,
    MeasuredMessages,
    MeasuredTest,
)
from iperfpy.comparison.message_standing import pooled
from iperfpy.plan import Direction
from iperfpy.report.settings_text import settings_text
from iperfpy.store.run_index import time_text

BULK, MESSAGES = "bulk", "messages"
"""Values of the column `type`."""
PERCENTILES = ("p5", "p50", "p95", "max")
COMPARISON = ("time", "host", "port", "seed")
"""Columns that are the same for all tests of a comparison; `time` is the beginning of the comparison."""
OWN = tuple(
    item.name for item in fields(MeasuredTest) if item.name not in ("rtt_us", "limit", "error", *COLUMNS)
)
"""Columns with the name of a field of `MeasuredTest`."""
COUNTS = ("size_bytes", "messages_per_s", "due", "sent", "answered")
TIMES = ("min_us", "p50_us", "p90_us", "p99_us", "slowest_us", "max_us")
SHARES = ("late_percent", "lost_percent", "wire_ratio")
"""Columns of messages, under the names that they have in the CSV of `iperfpy latency`."""


def header() -> list[str]:
    """The titles of the columns."""
    of_bulk = (*OWN, *(f"rtt_us_{key}" for key in PERCENTILES), "limit")
    return ["type", *COMPARISON, *of_bulk, *COUNTS, *TIMES, *SHARES, "settings", "error"]


def rows(report: ComparisonReport) -> Iterator[list[str]]:
    """The cells of each test."""
    titles = header()
    same = dict(
        zip(COMPARISON, (time_text(report.unix_time), report.host, report.port, report.seed), strict=True)
    )
    settings = {one.name: settings_text(one.settings) for one in report.contenders}
    tests: list[MeasuredTest | MeasuredMessages] = [*report.tests, *report.messages]
    for one in sorted(tests, key=lambda one: one.started_s):
        own = _bulk(one) if isinstance(one, MeasuredTest) else _messages(one)
        cells = {**same, **own, "settings": settings.get(one.contender)}
        yield [_cell(cells.get(title)) for title in titles]


def _bulk(one: MeasuredTest) -> dict[str, object]:
    return {
        "type": BULK,
        **{name: getattr(one, name) for name in OWN},
        **{f"rtt_us_{key}": one.rtt_us.get(key) for key in PERCENTILES},
        "limit": one.limit.cause if one.limit is not None else None,
        "error": one.error,
    }


def _messages(one: MeasuredMessages) -> dict[str, object]:
    cells: dict[str, object] = {
        "type": MESSAGES,
        "contender": one.contender,
        "direction": Direction.BIDIRECTIONAL,
        "round": one.round,
        "started_s": one.started_s,
        "size_bytes": one.size_bytes,
        "messages_per_s": one.per_s,
        "due": one.due,
        "sent": one.sent,
        "answered": len(one.round_trip_us),
        "error": one.error,
    }
    if not one.round_trip_us:
        return cells
    figures = pooled(ContenderFacts(one.contender, ""), [one])
    return cells | {
        "min_us": min(one.round_trip_us),
        **{name: getattr(figures, name) for name in TIMES[1:-1]},
        "max_us": max(one.round_trip_us),
        "late_percent": figures.late_percent,
        "lost_percent": 100 * (1 - len(one.round_trip_us) / one.due) if one.due else None,
        "wire_ratio": figures.wire_ratio,
    }


def _cell(value: object) -> str:
    """A figure as text: an enumeration by its value, nothing for None."""
    if value is None:
        return ""
    return str(getattr(value, "value", value))
