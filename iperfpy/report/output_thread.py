"""A thread that writes: a pipe without a reader, or a slow disk, never holds up the event loop that measures.

    loop      QueuedSink.interval(rows) --put--> queue        never waits
    thread    queue --> GuardedSink --> TextSink, CsvSink ...  may wait in a write
    main      finish()                                        waits until everything is written

There is one thread for each destination: a CSV file grows although no program reads standard output.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TextIO

from iperfpy.protocols.threads import start_thread
from iperfpy.protocols.units import counted
from iperfpy.records import Row, RunEnded, RunStarted, Sink

TERMINAL_ROWS = 4096
"""Rows of a table that may wait; more are left out."""
FILE_ROWS = 65_536
"""Rows of a CSV or a JSON stream that may wait, about 200 MB; more are lost."""
LOG_LINES = 1024
"""Lines of a log that may wait; more are left out."""

Job = Callable[[], None]
Repeated = Callable[[], float | None]
"""A function that returns the seconds until it is called again; None: never."""


class OutputThread:
    """Calls functions in the order in which they were put, in a thread that starts with the first one.

    Parameters
    ----------
    name : of the thread
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._repeated: Repeated | None = None  # this and the next one belong to the thread
        self._due_s = 0.0

    def repeat(self, job: Repeated) -> None:
        """Call `job()` at once, then again after the seconds that it returns, between the functions that are
        put. Called in the thread. One job at a time; it must not raise. Without a thread of its own there is
        only the first call."""
        self._repeated = job
        self._call_repeated()

    def put(self, job: Job) -> None:
        """Call `job()` soon, in the thread, or at once if the system has no thread to spare. It must not
        raise."""
        with self._starting:  # log lines come from any thread
            if self._thread is None:
                with contextlib.suppress(OSError):
                    self._thread = start_thread(self._run, self._name)
            started = self._thread is not None
        if started:
            self._jobs.put(job)
        else:
            job()

    def finish(self, limit_s: float | None = None) -> bool:
        """Wait until all functions were called, and end the thread. A later `put` starts another one.

        True if it ended; False if it still waits in a write after `limit_s`.
        """
        thread = self._thread
        if thread is None:
            return True
        self._jobs.put(None)
        thread.join(limit_s)
        self._thread = None
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._wait_s())
            except queue.Empty:
                self._call_repeated()
                continue
            if job is None:
                return
            job()
            # While jobs come all the time, no wait ends by its limit.
            if self._wait_s() == 0.0:
                self._call_repeated()

    def _wait_s(self) -> float | None:
        """Seconds until the repeated job is due, 0 if it is; None if there is none."""
        return None if self._repeated is None else max(0.0, self._due_s - time.monotonic())

    def _call_repeated(self) -> None:
        delay_s = self._repeated() if self._repeated is not None else None
        if delay_s is None:
            self._repeated = None
        else:
            self._due_s = time.monotonic() + delay_s


class QueuedSink:
    """Passes a test's records to a sink in an `OutputThread`.

    Intervals that find the queue full are left out; the start, the end and an error never are.

    Parameters
    ----------
    sink : called in the thread; it must not raise
    rows_limit : number of rows that may wait
    left_out : called in the thread with the number of intervals that were left out, before the next record
    closed : called on the event loop's thread when the test closes the sink
    """

    def __init__(
        self,
        sink: Sink,
        thread: OutputThread,
        rows_limit: int,
        left_out: Callable[[int], None],
        closed: Job = lambda: None,
    ) -> None:
        self._sink = sink
        self._thread = thread
        self._rows_limit = rows_limit
        self._tell_left_out = left_out
        self._closed = closed
        self._queued_rows = 0  # written by the event loop's thread only
        self._written_rows = 0  # written by the output's thread only
        self._left_out = 0

    def start(self, start: RunStarted) -> None:
        self._put(lambda: self._sink.start(start))

    def interval(self, rows: tuple[Row, ...]) -> None:
        waiting = self._queued_rows - self._written_rows
        if waiting and waiting + len(rows) > self._rows_limit:
            self._left_out += 1
            return
        self._queued_rows += len(rows)
        self._put(lambda: self._write(rows))

    def end(self, end: RunEnded) -> None:
        self._put(lambda: self._sink.end(end))

    def error(self, message: str) -> None:
        self._put(lambda: self._sink.error(message))

    def close(self) -> None:
        self._put(self._sink.close)
        self._closed()

    def _put(self, job: Job) -> None:
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self._thread.put(lambda: self._tell_left_out(count))
        self._thread.put(job)

    def _write(self, rows: tuple[Row, ...]) -> None:
        self._sink.interval(rows)
        self._written_rows += len(rows)


class QueuedLog(logging.Handler):
    """Writes log lines in an `OutputThread`; lines that find the queue full are left out and counted.

    Parameters
    ----------
    after : a line waits until this thread has called the functions that were put before; None: for nothing
    """

    def __init__(
        self,
        stream: TextIO,
        thread: OutputThread,
        lines_limit: int = LOG_LINES,
        after: OutputThread | None = None,
    ) -> None:
        super().__init__()
        self._after = after
        self._stream = stream
        self._thread = thread
        self._lines_limit = lines_limit
        self._queued = self._written = self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        # `Handler.handle` holds the handler's lock: threads of transports log as well.
        try:
            if self._queued - self._written >= self._lines_limit:
                self._left_out += 1
                return
            text = self.format(record)
            if self._left_out:
                text = f"({counted(self._left_out, 'line')} left out: the log was not read in time)\n{text}"
                self._left_out = 0
            self._queued += 1
            if self._after is None:
                self._thread.put(lambda: self._write(text))
            else:
                self._after.put(lambda: self._thread.put(lambda: self._write(text)))
        except Exception:  # as `logging` asks of a handler: a log line never ends the caller
            self.handleError(record)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass
        self._written += 1
