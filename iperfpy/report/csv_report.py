"""`--csv`: a header, a row for every stream and interval, then the summary.

    type        interval   one stream in one interval; figures of both ends where both are known
                summary    one stream over the whole test, as one end (`side`) measured it
                sum        all streams of one direction over the whole test, as one end measured it
                error      the reason that ended the test early, in the last column, `error`
    time        the time of writing, ISO 8601, UTC
    monotonic_s the same moment on a clock that never jumps
    start, end  measured seconds since the start of the test (since the end of its omitted period)

An empty field is not available; a zero is a zero. Every row is one write to the file, so a process that is
killed leaves whole rows.
"""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import stat
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from iperfpy.errors import system_reason
from iperfpy.plan import Plan
from iperfpy.protocols.metrics import Metric, Side, Value
from iperfpy.records import Latency, Row, RunEnded, RunStarted, Sample
from iperfpy.sampling.sums import by_direction, total

BASE = (
    *("type", "time", "monotonic_s", "role", "side", "direction", "transport"),
    *("stream", "start", "end", "bytes", "bits_per_second", "omitted"),
)
LATENCY = ("idle_rtt_us", "responsiveness_rpm")
"""Columns of the whole test, filled in the sum of a sender, whose `rtt_us_min`, `_mean` and `_max` are the
round-trip times under load."""
ERROR = "error"
RESULTS = Path("results")


class CsvFile:
    """A file of whole rows. `failure` is the error that lost a row, None while every row was written.

    Opening shows that the file can be written and does not change it: the rows of an earlier test are
    replaced with the first row of this one.
    """

    def __init__(self, path: Path, new: bool = False) -> None:
        """Open the file. Raises OSError; FileExistsError if it has to be `new` and exists."""
        self.path = path
        self.failure: OSError | None = None
        existed = path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_EXCL if new else 0)
        self._descriptor = os.open(path, flags, 0o666)
        self._created, self._written, self._size = not existed, False, 0

    def row(self, fields: Sequence[str]) -> bool:
        """Write one row. Returns False if it was lost, because this write or an earlier one failed."""
        if self.failure is not None or self._descriptor < 0:
            return False
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(fields)
        row = text.getvalue().encode()
        # The rows of an earlier test stay until there is a row of this one; a part of a row never stays.
        try:
            if not self._written:
                self._truncate()
                self._written = True
            self._append(row)
        except OSError as error:
            self.failure = error
            self._truncate()
            return False
        self._size += len(row)
        return True

    def close(self) -> None:
        """Close the file, and remove it if this object made it and wrote no row. Idempotent."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._created and not self._written and self.path.is_file():
            self.path.unlink(missing_ok=True)

    def _append(self, row: bytes) -> None:
        while row:
            row = row[os.write(self._descriptor, row) :]

    def _truncate(self) -> None:
        """Truncate a regular file to the whole rows of this test. A pipe or a device cannot be truncated."""
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.ftruncate(self._descriptor, self._size)


def open_default(plan: Plan, unix_time: float, folder: Path = RESULTS) -> CsvFile:
    """Open a new `results/20261122-171500-kcp-bbr-reverse.csv` (local time), or NAME-2.csv if that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    when = time.strftime("%Y%m%d-%H%M%S", time.localtime(unix_time))
    name = f"{when}-{plan.transport}-{plan.direction.value}"
    for count in range(1, 1000):
        try:
            return CsvFile(folder / (f"{name}.csv" if count == 1 else f"{name}-{count}.csv"), new=True)
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder / name))


class CsvSink:
    """Writes a test into a `CsvFile`.

    Parameters
    ----------
    open_file : gives the file for a plan; called when the test starts. Its OSError becomes a warning
    warn : called once, with a sentence, when a row cannot be written; the test goes on
    unix_time, monotonic : clocks, seconds
    """

    def __init__(
        self,
        open_file: Callable[[Plan], CsvFile],
        warn: Callable[[str], None],
        unix_time: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_file = open_file
        self._file: CsvFile | None = None
        self.failed = False
        self._warn = warn
        self._unix_time, self._monotonic = unix_time, monotonic
        self._start: RunStarted | None = None
        self._keys: tuple[tuple[Metric, str], ...] = ()

    def start(self, start: RunStarted) -> None:
        self._start = start
        self._keys = tuple((metric, key) for metric in start.transport.metrics for key in metric.keys)
        try:
            self._file = self._open_file(start.plan)
        except OSError as error:
            self._fail(f"no rows are written: {system_reason(error)}")
        keys = (key for _, key in self._keys)
        self._write([*BASE, *keys, *LATENCY, ERROR])

    def interval(self, rows: tuple[Row, ...]) -> None:
        for row in rows:
            self._record("interval", row, row.local, [row.of(side) for side in Side])

    def end(self, end: RunEnded) -> None:
        for row in end.rows:
            self._both_ends("summary", row)
        for group in by_direction(end.rows):
            row = total(group, self._start.transport.metrics if self._start else ())
            self._both_ends("sum", row, end.latency)
        if end.interrupted:
            self.error(end.interrupted)

    def error(self, message: str) -> None:
        """Write a row with the error alone. Before the test has started there is no file for it."""
        if self._start is None:
            return
        about = self._about(ERROR, "", self._start.plan.direction.value)
        figures = [""] * (len(BASE) - len(about) + len(self._keys) + len(LATENCY))
        self._write([*about, *figures, message])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _both_ends(self, kind: str, row: Row, latency: Latency | None = None) -> None:
        for side in Side:
            sample = row.of(side)
            if sample is not None:
                self._record(kind, row, sample, [sample], latency if side is Side.SENDER else None)

    def _record(
        self,
        kind: str,
        row: Row,
        sample: Sample,
        known: Sequence[Sample | None],
        latency: Latency | None = None,
    ) -> None:
        if self._start is None:
            return
        base: list[Value] = [
            *self._about(kind, sample.side.value, row.direction.value),
            row.stream or "sum",
            f"{sample.start_us / 1e6:.6f}",
            f"{sample.end_us / 1e6:.6f}",
            sample.bytes,
            round(sample.bits_per_second),
            int(sample.omitted),
        ]
        # A metric belongs to one side; its cell is empty if that end's figures are not known.
        ends = {one.side: one.values for one in known if one is not None}
        figures = [ends.get(metric.side, {}).get(key) for metric, key in self._keys]
        whole = latency.record() if latency is not None else {}
        figures += [whole.get(key) for key in LATENCY]
        self._write([*(field(value) for value in (*base, *figures)), ""])

    def _about(self, kind: str, side: str, direction: str) -> list[str]:
        """The columns that every row has, and an error's row as its only ones."""
        role, transport = (self._start.role.value, self._start.plan.transport) if self._start else ("", "")
        now = datetime.fromtimestamp(self._unix_time(), UTC).isoformat(timespec="milliseconds")
        return [kind, now, f"{self._monotonic():.6f}", role, side, direction, transport]

    def _write(self, fields: Sequence[str]) -> None:
        if self._file is None or self.failed or self._file.row(fields):
            return
        cause = f": {system_reason(self._file.failure)}" if self._file.failure else ""
        self._fail(f"no more rows go to {self._file.path}{cause}")

    def _fail(self, sentence: str) -> None:
        self.failed = True
        self._warn(f"{sentence}; the test continues")


def field(value: Value) -> str:
    """Format a cell: empty for None, NaN and infinities; at most six decimals."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
