"""`-J`: one document at the end. `--json-stream`: a line for every event, as it happens."""

from __future__ import annotations

import json
from typing import Any, TextIO

from iperfpy.plan import Plan, Texts
from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.report.interval_clock import IntervalClock
from iperfpy.store.iperf3_document import (
    Iperf3Document,
    diagnosis_of,
    end_object,
    error_of,
    interval_object,
    server_output_of,
    start_object,
)
from iperfpy.store.run_index import time_text


class JsonSink(Iperf3Document):
    """Writes iperf3's document once, in `close`, also after a test that failed.

    `plan`: the test, or its texts, if they are known before it starts.
    """

    def __init__(self, stream: TextIO, plan: Plan | Texts | None = None) -> None:
        super().__init__(plan=plan)
        self._stream = stream
        self._written = False

    def close(self) -> None:
        if not self._written:
            self._written = True
            self._stream.write(json.dumps(self.document, indent="\t", allow_nan=False) + "\n")
            self._stream.flush()


class JsonStreamSink:
    """Writes `{"event": ..., "data": ...}`, one per line, and flushes each line. That of an interval also has
    the time of day at its end under `time`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: RunStarted | None = None
        self._clock = IntervalClock(0.0)

    def start(self, start: RunStarted) -> None:
        self._start, self._clock = start, IntervalClock(start.unix_time)
        self._event("start", start_object(start))

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._start is not None:
            time = time_text(self._clock.ended(rows[0].local)) if rows else ""
            self._event("interval", interval_object(self._start, rows), time)

    def end(self, end: RunEnded) -> None:
        for event, output in (*server_output_of(end).items(), *diagnosis_of(end).items()):
            self._event(event, output)
        if end.interrupted:
            self._event("error", error_of(end))
        if self._start is not None:
            self._event("end", end_object(self._start, end))

    def error(self, message: str) -> None:
        self._event("error", message)
        self._event("end", {})

    def close(self) -> None:
        """Every line has been written."""

    def _event(self, event: str, data: Any, time: str = "") -> None:
        self._stream.write(event_line(event, data, time) + "\n")
        self._stream.flush()


def event_line(event: str, data: Any, time: str = "") -> str:
    """One line of a JSON stream, without its end. `time`: ISO 8601, or empty."""
    line = {"event": event, **({"time": time} if time else {}), "data": data}
    return json.dumps(line, separators=(",", ":"), allow_nan=False)
