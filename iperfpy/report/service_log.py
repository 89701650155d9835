"""One log line for each test of a server, and one for each of its warnings.

192.0.2.7 port 40112: tcp forward, 10.0 s, 941.20 Mbit/s, loss -: measured
192.0.2.7 port 40118: udp bidirectional, 3.2 s, forward 9.80 Mbit/s, loss 0.20 %, reverse 10.00 Mbit/s, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iperfpy.protocols.addresses import named
from iperfpy.protocols.metrics import Meaning, Metric, Side, number, with_meaning
from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.report.columns import NOT_AVAILABLE, decimal
from iperfpy.sampling.sums import by_direction, total


class ServiceLogSink:
    """Writes the line when the test is over.

    Parameters
    ----------
    write : takes the line
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._start: RunStarted | None = None

    def start(self, start: RunStarted) -> None:
        self._start = start
        self._warn(start, start.warnings)

    def interval(self, rows: tuple[Row, ...]) -> None:
        """The line has the whole test only."""

    def end(self, end: RunEnded) -> None:
        if self._start is not None:
            self._warn(self._start, end.warnings)
            self._write(line(self._start, end))

    def error(self, message: str) -> None:
        """The server writes the line of a test that did not start."""

    def close(self) -> None:
        """The line has been written."""

    def _warn(self, start: RunStarted, warnings: Sequence[str]) -> None:
        for warning in warnings:
            self._write(f"{named(start.peer)}: warning: {warning}")


def line(start: RunStarted, end: RunEnded) -> str:
    """The line of a test: client, transport, direction, seconds, rate, loss, result."""
    sums = [total(group, start.transport.metrics) for group in by_direction(end.rows)]
    samples = [row.of(Side.RECEIVER) or row.local for row in sums]
    parts = [
        f"{start.plan.transport} {start.plan.direction.value}",
        f"{max((sample.seconds for sample in samples), default=0.0):.1f} s",
    ]
    # A direction is named only where there are two of them.
    for row, sample in zip(sums, samples, strict=True):
        way = f"{row.direction.value} " if len(sums) > 1 else ""
        bps = sample.bits_per_second
        rate = NOT_AVAILABLE if bps is None else decimal(bps / 1e6)
        parts += [f"{way}{rate} Mbit/s", f"loss {_loss(row, start.transport.metrics)}"]
    result = "measured"
    if end.interrupted:
        result = f"{'failed' if end.failed else 'interrupted'}: {end.interrupted}"
    return f"{named(start.peer)}: {', '.join(parts)}: {result}"


def _loss(row: Row, metrics: Sequence[Metric]) -> str:
    samples = [sample for side in Side if (sample := row.of(side)) is not None]
    losses = with_meaning(metrics, Meaning.PATH_LOSS)
    values = (number(sample.values.get(metric.key)) for metric in losses for sample in samples)
    known = next((value for value in values if value is not None), None)
    return NOT_AVAILABLE if known is None else f"{known:.2f} %"
