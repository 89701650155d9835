"""A server's own report, kept for the client that asked for it (`--get-server-output`).

It is sent with the results, so its size is bounded: no client can make a server keep a day of intervals.
"""

from __future__ import annotations

import io
import json

from iperfpy.records import Row, RunEnded, ServerOutput, ServerOutputSink
from iperfpy.report.json_report import JsonSink
from iperfpy.report.screen import PlainScreen
from iperfpy.report.terminal import TextSink, Wording

INTERVALS_LIMIT_BYTES, TEXT_LIMIT = 6 << 20, 1 << 20


def server_output_sink(wording: Wording, *, as_json: bool) -> ServerOutputSink:
    """A sink that keeps this server's report in the form in which the server prints it."""
    return ServerOutputDocument() if as_json else ServerOutputText(wording)


class ServerOutputDocument(JsonSink):
    """Keeps the JSON document. Intervals that would make it too long are left out and counted."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self._bytes = self._left_out = 0

    def interval(self, rows: tuple[Row, ...]) -> None:
        if not self._left_out:
            super().interval(rows)
            self._bytes += len(json.dumps(self.document["intervals"][-1]))
            if self._bytes <= INTERVALS_LIMIT_BYTES:
                return
            self.document["intervals"].pop()
        self._left_out += 1

    def end(self, end: RunEnded) -> None:
        super().end(end)
        if self._left_out:
            self.document["intervals_left_out"] = self._left_out

    def output(self) -> ServerOutput:
        return self.document


class ServerOutputText(TextSink):
    """Keeps the table, as it would stand in a file."""

    def __init__(self, wording: Wording) -> None:
        self._text = _BoundedText()
        super().__init__(PlainScreen(self._text), self._text, wording)

    def interval(self, rows: tuple[Row, ...]) -> None:
        self._text.full = self._text.tell() > TEXT_LIMIT
        super().interval(rows)

    def end(self, end: RunEnded) -> None:
        if self._text.full:
            self._text.full = False
            self._text.write("(intervals left out)\n")
        super().end(end)

    def output(self) -> ServerOutput:
        return self._text.getvalue()


class _BoundedText(io.StringIO):
    """Drops the text that is written while `full` is True."""

    full = False

    def write(self, text: str, /) -> int:
        return len(text) if self.full else super().write(text)
