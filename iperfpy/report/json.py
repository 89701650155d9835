"""`-J`, one document at the end, and `--json-stream`, a line for everything that happens."""

from __future__ import annotations

import json
from typing import Any, TextIO

from iperfpy.measure.sample import Row, TestEnd, TestStart
from iperfpy.report.document import end_object, interval_object, start_object


def error_of(end: TestEnd) -> str:
    """What ended the test early, in iperf3's words where that was a signal."""
    return end.interrupted if end.failed else f"interrupt - {end.interrupted}"


class JsonSink:
    """iperf3's document, written once by `close`, whatever happened before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: TestStart | None = None
        self._document: dict[str, Any] = {"start": {}, "intervals": [], "end": {}}

    def start(self, start: TestStart) -> None:
        self._start = start
        self._document["start"] = start_object(start)
        if start.plan.title:
            self._document["title"] = start.plan.title
        if start.plan.extra_data:
            self._document["extra_data"] = start.plan.extra_data

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._start is not None:
            self._document["intervals"].append(interval_object(self._start, rows))

    def end(self, end: TestEnd) -> None:
        if self._start is not None:
            self._document["end"] = end_object(self._start, end)
        if end.interrupted:
            self._document["error"] = error_of(end)

    def error(self, message: str) -> None:
        self._document["error"] = message

    def close(self) -> None:
        if self._document:
            self._stream.write(json.dumps(self._document, indent="\t", allow_nan=False) + "\n")
            self._stream.flush()
            self._document = {}


class JsonStreamSink:
    """`{"event": ..., "data": ...}`, one per line, flushed as it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: TestStart | None = None

    def start(self, start: TestStart) -> None:
        self._start = start
        self._event("start", start_object(start))

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._start is not None:
            self._event("interval", interval_object(self._start, rows))

    def end(self, end: TestEnd) -> None:
        if end.interrupted:
            self._event("error", error_of(end))
        if self._start is not None:
            self._event("end", end_object(self._start, end))

    def error(self, message: str) -> None:
        self._event("error", message)
        self._event("end", {})

    def close(self) -> None:
        """Every line is already out."""

    def _event(self, event: str, data: Any) -> None:
        line = json.dumps({"event": event, "data": data}, separators=(",", ":"), allow_nan=False)
        self._stream.write(line + "\n")
        self._stream.flush()
