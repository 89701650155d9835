"""Visits to the streams of one event loop, in turns, and all their deadlines on one timer.

    soon(stream)        stream.visit() in the next round
    at(stream, us)      stream.visit() at that time
    forget(stream)      no more visits

A round visits each stream once that has asked for it, or that is due, in the order in which they
asked. It goes on in the next turn of the loop after `SLICE_NS`, so that sockets and the control connection
wait for a slice and not for all streams of a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

from iperfpy.protocols import clock
from iperfpy.protocols.datagrams.loop_timer import LoopTimer
from iperfpy.protocols.operating_system import monotonic_ns

SLICE_NS = 2_000_000
"""Time after which a turn of the loop visits no further stream."""
BYTES_PER_VISIT = 4 << 20
"""Bytes that a sender writes in a visit. A visit has a cost of its own: with 1 MiB, 128 streams of kcp
carried a quarter less, and those of kcp-bbr a tenth less."""
_NEVER = 1 << 62


class Visited(Protocol):
    """A stream that is visited."""

    def visit(self) -> None:
        """Do what is due, a bounded amount at once. Raises nothing."""


class StreamRounds:
    """The visits to the streams of one event loop."""

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, StreamRounds]] = WeakKeyDictionary()

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timer: Callable[[Callable[[], None]], LoopTimer] = LoopTimer
    ) -> None:
        self._loop = loop
        self._due: dict[Visited, None] = {}
        self._turn: asyncio.Handle | None = None
        self._times: dict[Visited, int] = {}
        self._heap: list[tuple[int, int, Visited]] = []  # entries that `_times` does not confirm are void
        self._entries = 0  # orders entries of one time
        self._timer = timer(self._ring)
        self._timer_us = _NEVER

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> StreamRounds:
        """The rounds of `loop`."""
        rounds = cls._of_loops.get(loop)
        if rounds is None:
            rounds = cls._of_loops[loop] = cls(loop)
        return rounds

    # -- asking for visits

    def soon(self, stream: Visited) -> None:
        """Visit `stream` in the next round."""
        self._due[stream] = None
        if self._turn is None:
            self._turn = self._loop.call_soon(self._visit_due)

    def awaits(self, stream: Visited) -> bool:
        """True if the next round visits `stream`."""
        return stream in self._due

    def at(self, stream: Visited, time_us: int) -> None:
        """Visit `stream` at `time_us`, or earlier if it has asked for that: it asks again then."""
        known_us = self._times.get(stream)
        if known_us is not None and known_us <= time_us:
            return
        now_us = clock.now_us()
        time_us = max(time_us, now_us + self._timer.shortest_us)
        self._times[stream] = time_us
        self._entries += 1
        heappush(self._heap, (time_us, self._entries, stream))
        if time_us < self._timer_us:
            self._set_timer(time_us, now_us)

    def forget(self, stream: Visited) -> None:
        """Visit `stream` no more."""
        self._due.pop(stream, None)
        self._times.pop(stream, None)
        if not self._times:
            self._heap.clear()
            self._timer_us = _NEVER
            self._timer.close()

    # -- turns

    def _set_timer(self, time_us: int, now_us: int) -> None:
        self._timer_us = time_us
        self._timer.start(max(1, time_us - now_us))

    def _ring(self) -> None:
        self._timer_us = _NEVER
        heap, times, now_us = self._heap, self._times, clock.now_us()
        while heap and (heap[0][0] <= now_us or times.get(heap[0][2]) != heap[0][0]):
            time_us, _, stream = heappop(heap)
            if times.get(stream) == time_us:  # else it has asked for an earlier time since, or is forgotten
                del times[stream]
                self._due[stream] = None
        if heap:
            self._set_timer(heap[0][0], now_us)
        if self._due and self._turn is None:
            self._visit_due()

    def _visit_due(self) -> None:
        self._turn = None
        due, until_ns = self._due, monotonic_ns() + SLICE_NS
        # A stream that asks again meanwhile is visited in the next round.
        for _ in range(len(due)):
            if not due:  # forgotten by another one's visit
                break
            stream = next(iter(due))
            del due[stream]
            stream.visit()
            if monotonic_ns() > until_ns:
                break
        if due and self._turn is None:
            self._turn = self._loop.call_soon(self._visit_due)
