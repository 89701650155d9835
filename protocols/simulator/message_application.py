"""Messages and their echoes over two endpoints of the simulator, as a latency test sends them.

    talk = Messages(client, count=1_000, interval_us=20_000, size_bytes=100)
    echo = Echoes(server, size_bytes=100)
    client, server : endpoints that hand payload on: `deliver=lambda payload: talk.arrived(payload)`
    simulation.flow(client, server, there, back, talk, answers=echo)
    talk.round_trip_us                      by number of the message; -1: not answered yet

Open loop: a message is due at its time, whether or not the last one came back, and its round trip counts from
then. A byte stream cuts messages anywhere, so all have one size.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.application import Writer

UNANSWERED = -1
NUMBER_BYTES = 4
GOLDEN = (5**0.5 - 1) / 2

Bytes = NDArray[np.uint8]


class _Queue:
    """Bytes that wait for room in an endpoint."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: deque[memoryview] = deque()

    def add(self, data: bytes) -> None:
        self._waiting.append(memoryview(data))

    def write(self, now_us: int) -> int:
        """Write as much as the endpoint takes; returns the bytes."""
        written = 0
        while self._waiting and (room := self._writer.writable()) > 0:
            first = self._waiting[0]
            taken = self._writer.write(first[:room], now_us)
            written += taken
            if taken < len(first):
                self._waiting[0] = first[taken:]
                break
            self._waiting.popleft()
        return written


class Messages:
    """The client's application.

    Parameters
    ----------
    count, interval_us, size_bytes : number, distance and size of the messages
    spread : True to move each message by less than an interval, by multiples of the golden ratio, so that
        messages keep step with no timer of the protocol
    start_us : due time of the first one

    Attributes
    ----------
    round_trip_us : int64 (count,), from due time to the arrival of the echo, or `UNANSWERED`
    """

    def __init__(
        self,
        writer: Writer,
        count: int,
        interval_us: float,
        size_bytes: int,
        *,
        spread: bool = False,
        start_us: int = 0,
    ) -> None:
        numbers = np.arange(count)
        moved = numbers * GOLDEN % 1 if spread else 0.0
        self._due_us = (start_us + (numbers + moved) * interval_us).astype(np.int64)
        self._size_bytes = size_bytes
        self._queue = _Queue(writer)
        self._next = 0
        self._rest = bytearray()
        self.round_trip_us = np.full(count, UNANSWERED, np.int64)

    @property
    def is_answered(self) -> bool:
        """True if every message was answered."""
        return bool((self.round_trip_us != UNANSWERED).all())

    def arrived(self, payload: Bytes) -> None:
        """Take payload from the endpoint. `feed`, which follows, knows the time."""
        self._rest += payload.tobytes()

    def feed(self, now_us: int) -> int:
        self._take_echoes(now_us)
        while self._next < len(self._due_us) and self._due_us[self._next] <= now_us:
            number = self._next.to_bytes(NUMBER_BYTES, "big")
            self._queue.add(number + bytes(self._size_bytes - NUMBER_BYTES))
            self._next += 1
        return self._queue.write(now_us)

    def _take_echoes(self, now_us: int) -> None:
        size = self._size_bytes
        whole = len(self._rest) // size * size
        for begin in range(0, whole, size):
            number = int.from_bytes(self._rest[begin : begin + NUMBER_BYTES], "big")
            if self.round_trip_us[number] == UNANSWERED:
                self.round_trip_us[number] = now_us - int(self._due_us[number])
        del self._rest[:whole]

    def due_us(self) -> int | None:
        return int(self._due_us[self._next]) if self._next < len(self._due_us) else None


class Echoes:
    """The server's application: it sends back what arrives, whole messages at once."""

    def __init__(self, writer: Writer, size_bytes: int) -> None:
        self._queue = _Queue(writer)
        self._size_bytes = size_bytes
        self._rest = bytearray()

    def arrived(self, payload: Bytes) -> None:
        """Take payload from the endpoint."""
        self._rest += payload.tobytes()

    def feed(self, now_us: int) -> int:
        whole = len(self._rest) // self._size_bytes * self._size_bytes
        for begin in range(0, whole, self._size_bytes):
            self._queue.add(bytes(self._rest[begin : begin + self._size_bytes]))
        del self._rest[:whole]
        return self._queue.write(now_us)

    def due_us(self) -> int | None:
        return None
