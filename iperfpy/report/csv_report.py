"""`--csv`: a row for every stream and interval, then the summary.

    type        interval   one stream in one interval
                summary    one stream over the whole test
                sum        all streams of one direction over the whole test: the result
                error      the reason that ended the test early, in the column `error`
    side        the end to which `start`, `end`, `bytes` and `bits_per_second` belong: in an interval this
                end, in a summary the receiver, if its figures are known
    time        the time of writing, ISO 8601, UTC
    monotonic_s the same moment on a clock that never jumps

Every row has the figures of both ends, as far as they are known. An empty field is not available; a zero is a
zero. `csv_columns.py` has the columns, `csv_file.py` writes the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.metrics import Side, Value
from iperfpy.protocols.registry import built_in_transports
from iperfpy.records import Latency, Row, RunEnded, RunStarted, Sample
from iperfpy.report.csv_columns import ERROR, LATENCY, PLUGIN, WARNINGS, cells, plugin_cell
from iperfpy.report.csv_file import RowWriter
from iperfpy.sampling.sums import by_direction, total
from iperfpy.store.iperf3_document import host_of


class CsvSink:
    """Writes a test as rows.

    Parameters
    ----------
    rows : takes the rows; other tests may write to it at the same time. Its OSError is not caught here
    about : columns of a client's test, for the row of one that fails before it starts; None at a server
    unix_time, monotonic : clocks, seconds
    """

    def __init__(
        self,
        rows: RowWriter,
        about: Mapping[str, Value] | None = None,
        unix_time: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = rows
        self._unix_time, self._monotonic = unix_time, monotonic
        self._start: RunStarted | None = None
        self._about = dict(about or {})

    def start(self, start: RunStarted) -> None:
        self._start = start
        self._about = _about(start)

    def interval(self, rows: tuple[Row, ...]) -> None:
        for row in rows:
            self._write(self._figures("interval", row, row.local))

    def end(self, end: RunEnded) -> None:
        used = self._congestion_of(end)
        for row in end.rows:
            self._write(used | self._figures("summary", row, _headline(row)))
        for group in by_direction(end.rows):
            row = total(group, self._start.transport.metrics if self._start else ())
            whole = _latency(end.latency) | {WARNINGS: "; ".join(self._warnings(end)) or None}
            self._write(used | self._figures("sum", row, _headline(row)) | whole)
        if end.interrupted:
            self.error(end.interrupted)

    def error(self, message: str) -> None:
        """Write a row with the error, and with the facts of the test that are known."""
        self._write({"type": ERROR, ERROR: message})

    def close(self) -> None:
        """Every row has been written."""

    def _figures(self, kind: str, row: Row, of: Sample) -> dict[str, Value]:
        """The columns of a row; its times and bytes are those of one sample."""
        figures: dict[str, Value] = {
            "type": kind,
            "direction": row.direction.value,
            "stream": row.stream or "sum",
            "side": of.side.value,
            "start": f"{of.start_us / 1e6:.6f}",
            "end": f"{of.end_us / 1e6:.6f}",
            "bytes": of.bytes,
            "bits_per_second": _rate(of),
            "omitted": int(of.omitted),
        }
        # A result is read from one row, so both ends stand in it, as far as they are known.
        for side in Side:
            known = row.of(side)
            if known is not None:
                figures[f"{side.value}_bytes"] = known.bytes
                figures[f"{side.value}_bits_per_second"] = _rate(known)
        return figures | self._metrics(row)

    def _metrics(self, row: Row) -> dict[str, Value]:
        """The transport's figures of both ends, each under its key, or a plug-in's in one cell."""
        if self._start is None:
            return {}
        transport = self._start.transport
        # A metric belongs to one side; its cell is empty if that end's figures are not known.
        ends = {side: sample.values for side in Side if (sample := row.of(side)) is not None}
        figures = {
            key: ends.get(metric.side, {}).get(key) for metric in transport.metrics for key in metric.keys
        }
        # A plug-in may give another meaning to a key of a built-in transport.
        if transport.name not in built_in_transports():
            return {PLUGIN: plugin_cell(figures)}
        return {key: value for key, value in figures.items() if value is not None}

    def _congestion_of(self, end: RunEnded) -> dict[str, Value]:
        """The sender's congestion control as a stock peer names it, once, in its results."""
        both = self._start is not None and self._start.plan.direction is Direction.BIDIRECTIONAL
        return {} if both else {"congestion": end.extra.get("sender_tcp_congestion")}

    def _warnings(self, end: RunEnded) -> tuple[str, ...]:
        return (*(self._start.warnings if self._start else ()), *end.warnings)

    def _write(self, values: Mapping[str, Value]) -> None:
        now = datetime.fromtimestamp(self._unix_time(), UTC).isoformat(timespec="milliseconds")
        moment: dict[str, Value] = {"time": now, "monotonic_s": f"{self._monotonic():.6f}"}
        self._rows.row(cells({**moment, **self._about, **values}))


def _about(start: RunStarted) -> dict[str, Value]:
    """The columns that are the same in every row of a test."""
    return {
        "test_id": start.cookie,
        "role": start.role.value,
        "host": host_of(start.peer),
        "port": start.peer[1],
        **_about_plan(start.plan),
    }


def about_client(plan: Plan, options: ClientOptions) -> dict[str, Value]:
    """The columns about a client's test that has not started: it has no identifier yet."""
    return {"role": Role.CLIENT.value, "host": options.host, "port": options.port, **_about_plan(plan)}


def _about_plan(plan: Plan) -> dict[str, Value]:
    return {
        "title": plan.title or None,
        "transport": plan.transport,
        "direction": plan.direction.value,
        "streams": plan.parallel,
    }


def _rate(sample: Sample) -> int | None:
    rate = sample.bits_per_second
    return None if rate is None else round(rate)


def _headline(row: Row) -> Sample:
    """The receiver's figures of the whole test, or this end's if those are not known."""
    return row.of(Side.RECEIVER) or row.local


def _latency(latency: Latency) -> dict[str, Value]:
    whole = latency.record()
    return {key: whole[key] for key in LATENCY}
