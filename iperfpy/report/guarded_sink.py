"""A guard for a report: if the report cannot be written, the test goes on."""

from __future__ import annotations

from collections.abc import Callable

from iperfpy.records import Row, RunEnded, RunStarted, Sink


class GuardedSink:
    """Passes every record to a sink until that sink fails. No method raises.

    Parameters
    ----------
    sink : the sink that writes
    lost : called once, with the first exception: an OSError of a full disk or a closed pipe, or a fault
    """

    def __init__(self, sink: Sink, lost: Callable[[Exception], None]) -> None:
        self._sink = sink
        self._lost = lost
        self._working = True

    def start(self, start: RunStarted) -> None:
        self.attempt(lambda: self._sink.start(start))

    def interval(self, rows: tuple[Row, ...]) -> None:
        self.attempt(lambda: self._sink.interval(rows))

    def end(self, end: RunEnded) -> None:
        self.attempt(lambda: self._sink.end(end))

    def error(self, message: str) -> None:
        self.attempt(lambda: self._sink.error(message))

    def close(self) -> None:
        self.attempt(self._sink.close)

    def attempt(self, write: Callable[[], None]) -> None:
        """Call `write()`, unless the sink has failed before."""
        if not self._working:
            return
        try:
            write()
        except Exception as error:
            self._working = False
            self._lost(error)
