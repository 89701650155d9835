"""A guard for a report: if the report cannot be written, the test goes on."""

from __future__ import annotations

from collections.abc import Callable

from iperfpy.records import Row, RunEnded, RunStarted, Sink


class GuardedSink:
    """Passes every record to a sink until that sink fails to write.

    Only OSError is caught (a full disk, a closed pipe): any other exception is a fault of this program.

    Parameters
    ----------
    sink : the sink that writes
    lost : called once, with the error of the first write that failed
    closed : called when the sink is closed
    """

    def __init__(
        self, sink: Sink, lost: Callable[[OSError], None], closed: Callable[[], None] = lambda: None
    ) -> None:
        self._sink = sink
        self._lost = lost
        self._closed = closed
        self._working = True

    def start(self, start: RunStarted) -> None:
        self._try(lambda: self._sink.start(start))

    def interval(self, rows: tuple[Row, ...]) -> None:
        self._try(lambda: self._sink.interval(rows))

    def end(self, end: RunEnded) -> None:
        self._try(lambda: self._sink.end(end))

    def error(self, message: str) -> None:
        self._try(lambda: self._sink.error(message))

    def close(self) -> None:
        self._try(self._sink.close)
        self._closed()

    def _try(self, write: Callable[[], None]) -> None:
        if not self._working:
            return
        try:
            write()
        except OSError as error:
            self._working = False
            self._lost(error)
