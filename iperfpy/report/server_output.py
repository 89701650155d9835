"""A server's own report, kept for the client that asked for it (`--get-server-output`).

It is sent with the results, so its size is bounded: no client can make a server keep a day of intervals.
"""

from __future__ import annotations

import io
import json

from iperfpy.records import Row, RunEnded, RunStarted, ServerOutput, ServerOutputSink
from iperfpy.report.json_report import JsonSink
from iperfpy.report.terminal import Wording
from iperfpy.report.text_forms import TextForm

INTERVALS_LIMIT_BYTES, TEXT_LIMIT = 6 << 20, 1 << 20


def server_output_sink(form: TextForm | None, wording: Wording) -> ServerOutputSink:
    """A sink that keeps this server's report as it prints it: in a form of text, or as JSON (None)."""
    return ServerOutputDocument() if form is None else ServerOutputText(form, wording)


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


class ServerOutputText:
    """Keeps the text, as it would stand in a file."""

    def __init__(self, form: TextForm, wording: Wording) -> None:
        self._text = _BoundedText()
        self._report = form.report(form.screen(self._text, ""), self._text, wording)

    def start(self, start: RunStarted) -> None:
        self._report.start(start)

    def interval(self, rows: tuple[Row, ...]) -> None:
        self._text.full = self._text.tell() > TEXT_LIMIT
        self._report.interval(rows)

    def end(self, end: RunEnded) -> None:
        if self._text.full:
            self._text.full = False
            self._text.write("(intervals left out)\n")
        self._report.end(end)

    def error(self, message: str) -> None:
        self._report.error(message)

    def close(self) -> None:
        self._report.close()

    def output(self) -> ServerOutput:
        return self._text.getvalue()


class _BoundedText(io.StringIO):
    """Drops the text that is written while `full` is True."""

    full = False

    def write(self, text: str, /) -> int:
        return len(text) if self.full else super().write(text)
