"""A watch on the end of a server's test: the report of the server's own end depends on it."""

from __future__ import annotations

from collections.abc import Callable

from iperfpy.records import Row, RunEnded, RunStarted, Sink


class EndWatch:
    """Passes every record to a sink.

    `note` gets the sentence with which the user of this end stopped the test, or an empty one at any other
    end.
    """

    def __init__(self, sink: Sink, note: Callable[[str], None]) -> None:
        self._sink = sink
        self._note = note

    def start(self, start: RunStarted) -> None:
        self._sink.start(start)

    def interval(self, rows: tuple[Row, ...]) -> None:
        self._sink.interval(rows)

    def end(self, end: RunEnded) -> None:
        self._note("" if end.failed else end.interrupted)
        self._sink.end(end)

    def error(self, message: str) -> None:
        self._note("")
        self._sink.error(message)

    def close(self) -> None:
        self._sink.close()
