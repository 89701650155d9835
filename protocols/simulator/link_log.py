"""The log of a link in the format of mahimahi's mm-link, which its scripts and Pantheon's read.

    # mahimahi mm-link (uplink) [PATH] > FILE          T # 1504            an opportunity
    # command line: ...                                T + size            an arrival at the queue
    # queue: droptail [bytes=425000]                   T - size delay      a departure, and its wait
    # init timestamp: 0                                T d packets bytes   a drop by the queue
    # base timestamp: 0

T and delay are whole milliseconds, rounded down; sizes are those of IP packets and mahimahi's header of 4
bytes. A link with a rate has an opportunity whenever it has served 1,500 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from operator import itemgetter
from typing import TextIO

from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.rate_trace import OPPORTUNITY_BYTES, TRACE_HEADER_BYTES

_MOST_PENDING = 1_024
"""Events that are kept for sorting: each batch of departures is known later than the arrivals after it. Few,
because writing them holds a relay up, 1 us or more each."""
_OPPORTUNITY, _DEPARTURE, _ARRIVAL, _DROP, _PASSAGE = range(5)
"""Kinds of events, in the order of those at one time: nothing departs at the time of its arrival, except by
`_PASSAGE`, where there is no queue."""


def queue_text(path: Path) -> str:
    """Describe the queue of a path in mahimahi's words."""
    limits = []
    if path.buffer_bytes is not None:
        limits.append(f"bytes={path.buffer_bytes}")
    if path.buffer_datagrams is not None:
        limits.append(f"packets={path.buffer_datagrams}")
    if path.codel is not None:
        target, interval = (f"{one / 1_000:g}" for one in (path.codel.target_us, path.codel.interval_us))
        return f"codel [{', '.join((*limits, f'target={target}, interval={interval}'))}]"
    return f"droptail [{', '.join(limits)}]" if limits else "infinite"


class LinkLog:
    """Writes the events of one link.

    Times of the link count from `start_us`. A stream that fails takes no more, and `error` says why: the
    link goes on.

    Parameters
    ----------
    name : "uplink" or "downlink"
    description : the path, for the header
    file : name of the file, for the header
    init_ms : the wall clock at the start, milliseconds
    """

    def __init__(
        self,
        stream: TextIO,
        name: str,
        description: str,
        queue: str,
        *,
        file: str = "",
        start_us: float = 0.0,
        init_ms: int = 0,
    ) -> None:
        self.written_us = -inf
        self.error: OSError | None = None
        self._stream, self._start_us = stream, start_us
        self._events: list[tuple[float, int, str]] = []
        # A path may stand on several lines; a line of the header does not.
        description, file = " ".join(description.split()), " ".join(file.split())
        self._write(
            f"# mahimahi mm-link ({name}) [{description}] > {file or '-'}\n"
            f"# command line: iperfpy lab {description}\n# queue: {queue}\n"
            f"# init timestamp: {init_ms}\n# base timestamp: 0\n"
        )

    @property
    def full(self) -> bool:
        """True if `write` should be called: many events wait for it."""
        return len(self._events) >= _MOST_PENDING

    def arrived(self, now_us: float, count: int, size: int) -> None:
        """Take datagrams that reach the queue; `size` is that of an IP packet."""
        self._events += [(now_us, _ARRIVAL, f"+ {size + TRACE_HEADER_BYTES}")] * count

    def dropped(self, now_us: float, count: int, size: int) -> None:
        """Take datagrams that the queue drops."""
        self._events.append((now_us, _DROP, f"d {count} {count * (size + TRACE_HEADER_BYTES)}"))

    def departed(self, times_us: Iterable[float], arrived_us: float, size: int) -> None:
        """Take the departures of datagrams that arrived together."""
        size, arrived_ms = size + TRACE_HEADER_BYTES, self._ms(arrived_us)
        for time_us in map(float, times_us):
            self._events.append((time_us, _DEPARTURE, f"- {size} {self._ms(time_us) - arrived_ms}"))

    def passed(self, now_us: float, count: int, size: int) -> None:
        """Take datagrams that meet no queue."""
        self.arrived(now_us, count, size)
        self._events += [(now_us, _PASSAGE, f"- {size + TRACE_HEADER_BYTES} 0")] * count

    def write(self, now_us: float, opportunities_us: Iterable[float]) -> None:
        """Write the events up to now, and the opportunities since the call before, in the order of time."""
        line = f"# {OPPORTUNITY_BYTES}"
        self._events += [(float(time_us), _OPPORTUNITY, line) for time_us in opportunities_us]
        self._events.sort(key=itemgetter(0, 1))
        self._write("".join(f"{self._ms(time_us)} {text}\n" for time_us, _, text in self._events))
        self._events.clear()
        self.written_us = now_us

    def _ms(self, time_us: float) -> int:
        # The small term undoes the rounding of sums of floats, which would move an event to the ms before.
        return int((time_us - self._start_us + 1e-3) // 1_000)

    def _write(self, text: str) -> None:
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self.error = error
