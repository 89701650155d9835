"""The CSV of `iperfpy latency`: a line for each row of the result. Empty: not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from iperfpy.report.settings_text import settings_text
from iperfpy.sampling.latency_report import LatencyReport, groups
from iperfpy.sampling.message_figures import MessageFigures
from iperfpy.store.run_index import time_text

OWN = ("time", "host", "port", "name", "transport", "size_bytes", "messages_per_s", "seconds", "rounds")
LOAD = ("load", "load_direction", "load_up_bits_per_second", "load_down_bits_per_second")
FIGURES = tuple(item.name for item in fields(MessageFigures))


def header() -> list[str]:
    """The titles of the columns."""
    return [*OWN, *LOAD, *FIGURES, "settings", "error"]


def rows(report: LatencyReport) -> Iterator[list[str]]:
    """The cells of each row, sorted as the table is."""
    for row in (row for group in groups(report) for row in group):
        own = (
            *(time_text(report.unix_time), report.host, report.port, row.name, row.transport),
            *(row.size_bytes, row.per_s, row.seconds, len(row.times)),
        )
        rate, figures = row.load_rate, row.figures.record()
        load = (row.load, row.direction, rate.get("up"), rate.get("down"))
        told = (settings_text(row.settings), row.error)
        yield [_cell(one) for one in (*own, *load, *(figures[name] for name in FIGURES), *told)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
