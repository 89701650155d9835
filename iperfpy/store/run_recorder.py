"""A sink that collects the records of a test into a `Run`."""

from __future__ import annotations

from collections.abc import Callable

from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.store.stored_run import Interval, Run


class RunRecorder:
    """Collects one test.

    Parameters
    ----------
    on_interval : called with each interval as it happens
    on_close : called with the run once no further record follows
    """

    def __init__(
        self,
        on_interval: Callable[[Interval], None] | None = None,
        on_close: Callable[[Run], None] | None = None,
    ) -> None:
        self._on_interval = on_interval
        self._on_close = on_close
        self._started: RunStarted | None = None
        self._intervals: list[Interval] = []
        self._ended: RunEnded | None = None
        self._error = ""

    def start(self, start: RunStarted) -> None:
        self._started = start

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._started is None:
            return
        interval = Interval.of(rows, self._started.transport)
        self._intervals.append(interval)
        if self._on_interval is not None:
            self._on_interval(interval)

    def end(self, end: RunEnded) -> None:
        self._ended, self._error = end, end.interrupted

    def error(self, message: str) -> None:
        self._error = message

    def close(self) -> None:
        if self._on_close is not None:
            self._on_close(self.run())

    def run(self) -> Run:
        """The records so far."""
        return Run(self._started, tuple(self._intervals), self._ended, self._error)
