"""`-J`, one document at the end, and `--json-stream`, a line for everything that happens."""

from __future__ import annotations

import json
from typing import Any, TextIO

from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.report.iperf3_document import clean, end_object, interval_object, program_object, start_object


def error_of(end: RunEnded) -> str:
    """What ended the test early, in iperf3's words where that was a signal."""
    return end.interrupted if end.failed else f"interrupt - {end.interrupted}"


def server_output_of(end: RunEnded) -> dict[str, Any]:
    """The server's own report, under iperf3's key for its form; nothing when there is none."""
    output = end.server_output
    if not output:
        return {}
    return (
        {"server_output_text": output} if isinstance(output, str) else {"server_output_json": clean(output)}
    )


class JsonSink:
    """iperf3's document, written once by `close`, whatever happened before. `document`: as it is so far."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: RunStarted | None = None
        self._written = False
        self.document: dict[str, Any] = {"start": program_object(), "intervals": [], "end": {}}

    def start(self, start: RunStarted) -> None:
        self._start = start
        self.document["start"] = start_object(start)
        if start.plan.title:
            self.document["title"] = start.plan.title
        if start.plan.extra_data:
            self.document["extra_data"] = start.plan.extra_data

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._start is not None:
            self.document["intervals"].append(interval_object(self._start, rows))

    def end(self, end: RunEnded) -> None:
        if self._start is not None:
            self.document["end"] = end_object(self._start, end)
        self.document |= server_output_of(end)
        if end.interrupted:
            self.document["error"] = error_of(end)

    def error(self, message: str) -> None:
        self.document["error"] = message

    def close(self) -> None:
        if not self._written:
            self._written = True
            self._stream.write(json.dumps(self.document, indent="\t", allow_nan=False) + "\n")
            self._stream.flush()


class JsonStreamSink:
    """`{"event": ..., "data": ...}`, one per line, flushed as it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: RunStarted | None = None

    def start(self, start: RunStarted) -> None:
        self._start = start
        self._event("start", start_object(start))

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._start is not None:
            self._event("interval", interval_object(self._start, rows))

    def end(self, end: RunEnded) -> None:
        for event, output in server_output_of(end).items():
            self._event(event, output)
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
