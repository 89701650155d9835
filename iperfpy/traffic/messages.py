"""Messages of a latency test: the client sends them at their due times, the server echoes each at once.

    client   MessageSource   Load: a message is due at its time, whether or not the last one came back
                             arrived: an echo -> its round-trip time, from the time at which it was due
    server   MessageEcho     arrived: a message -> its echo;  Load: the echoes that wait

    offset 0   u32 big-endian   number of the message, from 0
           4   u64 big-endian   message: its due time by the client's clock; echo: the arrival of the message
                                by the server's clock; microseconds
          12   u32 big-endian   the stream's conversation number
          16                    padding

A byte stream carries messages of one size behind each other, a transport of datagrams one in each. Due times
are on average an interval apart. Multiples of the golden ratio, modulo 1, move each by less than an interval:
equal distances would keep step with the timers of a protocol (KCP's tick is 10 ms), and every message would
meet the same moment of a tick.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterator

from iperfpy.errors import ProtocolError
from iperfpy.plan import Plan
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Stream, Transport
from iperfpy.records import UNANSWERED, MessageTimes
from iperfpy.traffic.payload import FOREVER, LONGEST_WAIT_US
from iperfpy.traffic.poll_times import GOLDEN

HEADER = struct.Struct(">IQI")
MOST_WAITING_BYTES = 4 << 20
"""Echoes that a server keeps while the way back is too slow for them."""
TAKE_BYTES = 1 << 16
"""Echoes that leave a server in one call, of a byte stream."""
EARLY_US = 5_000_000
"""Time by which messages may be ahead of their rate at the server: the first ones were late, say."""
LONGEST_REST_US = 30_000_000
"""Longest wait for answers after the last message was due."""
QUIET_US, QUIET_LOSSY_US = 5_000_000, 500_000
"""Time without an answer that ends this wait: a reliable transport repeats lost data, at long intervals."""


def message_end(
    plan: Plan, transport: Transport, stream: Stream, started_us: int, wake: Callable[[], None]
) -> MessageSource | MessageEcho:
    """This end of a message test. `wake`: the channel's, called when echoes have come to wait."""
    if stream.sends:
        return MessageSource(plan, stream.conv, started_us, datagrams=transport.datagrams)
    return MessageEcho(plan, stream.conv, wake, datagrams=transport.datagrams)


class _Frames:
    """Cuts what arrives into messages of one size."""

    def __init__(self, size_bytes: int, *, datagrams: bool) -> None:
        self._size_bytes, self._datagrams = size_bytes, datagrams
        self._rest = bytearray()  # the beginning of a message

    def cut(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """The messages that `data` completes, each valid until the next. A datagram of another size is not
        one of this test, and is left out."""
        size = self._size_bytes
        if self._datagrams or (not self._rest and len(data) == size):
            if len(data) == size:
                yield data
            return
        self._rest += data
        whole = len(self._rest) // size * size
        messages, self._rest = bytes(self._rest[:whole]), self._rest[whole:]
        for begin in range(0, whole, size):
            yield messages[begin : begin + size]


class MessageSource:
    """The client's end: sends messages, and takes the echoes. Implements `contract.Load`.

    One thread calls `wait_us` and `take`, one `arrived`, and the event loop the others. They share plain
    numbers and arrays, in which each message has a place of its own.
    """

    def __init__(self, plan: Plan, conv: int, started_us: int, *, datagrams: bool) -> None:
        import numpy as np  # here, because few tests have messages and importing it takes long

        self._size_bytes, self._count = plan.block_bytes, plan.message_count
        self._interval_us = 1e6 / plan.messages_per_s
        self._conv, self._datagrams = conv, datagrams
        self._frames = _Frames(self._size_bytes, datagrams=datagrams)
        self._message = bytearray(os.urandom(self._size_bytes))
        self._started_us = started_us
        self._begun_us: int | None = None
        self._next = self._answered = self._repeated = 0
        self._heard_us = self._longest_us = 0
        self._stopped = False
        self._round_trip_us = np.full(self._count, UNANSWERED, np.uint32)
        self._there_us = np.zeros(self._count, np.int64)
        self._held_us = np.zeros(self._count, np.uint32)

    def _due_us(self, number: int) -> int:
        begun_us = self._started_us if self._begun_us is None else self._begun_us
        return begun_us + int((number + number * GOLDEN % 1) * self._interval_us)

    # -- the sending thread

    @property
    def may_block(self) -> bool:
        return False

    def wait_us(self, now_us: int) -> int:
        """Microseconds until the next message is due: 0 if one is due now, -1 after the last."""
        if self._stopped or self._next == self._count:
            return FOREVER
        if self._begun_us is None:
            self._begun_us = now_us  # the transport takes data from now on
        return max(0, min(LONGEST_WAIT_US, self._due_us(self._next) - now_us))

    def take(self) -> memoryview:
        """The next message, valid until the next call."""
        number, due_us = self._next, self._due_us(self._next)
        self._held_us[number] = min(max(0, now_us() - due_us), UNANSWERED)
        HEADER.pack_into(self._message, 0, number, due_us, self._conv)
        self._next = number + 1
        return memoryview(self._message)

    def stop(self) -> None:
        """Send no more messages."""
        self._stopped = True

    # -- the receiving thread

    def arrived(self, data: memoryview) -> None:
        """Take echoes. Raises `ProtocolError` for bytes that are none."""
        arrived_us = now_us()
        for message in self._frames.cut(data):
            number, there_us, conv = HEADER.unpack_from(message)
            if conv != self._conv or number >= self._next:
                if self._datagrams:
                    continue
                raise ProtocolError("the server sent bytes that are not the echo of a message")
            if self._round_trip_us[number] != UNANSWERED:
                self._repeated += 1
                continue
            due_us = self._due_us(number)
            round_trip_us = min(max(0, arrived_us - due_us), UNANSWERED - 1)
            # The two clocks differ by anything: the difference modulo 2^64, as a signed number.
            self._there_us[number] = (there_us - due_us + (1 << 63)) % (1 << 64) - (1 << 63)
            self._round_trip_us[number] = round_trip_us
            self._longest_us = max(self._longest_us, round_trip_us)
            self._answered, self._heard_us = self._answered + 1, arrived_us

    # -- the event loop

    def is_over(self, now_us: int) -> bool:
        """True once every message was answered, or no more answers are to be expected."""
        if self._answered == self._count:
            return True
        rest_us = now_us - self._due_us(self._count - 1)
        if rest_us > LONGEST_REST_US:
            return True
        if rest_us <= 0 or self._next < self._count:
            return False
        shortest_us = QUIET_LOSSY_US if self._datagrams else QUIET_US
        quiet_us = min(max(shortest_us, 4 * self._longest_us), QUIET_US)
        return now_us - max(self._heard_us, now_us - rest_us) > quiet_us

    def times(self) -> MessageTimes:
        """The times of the messages that were due by now."""
        due = min(self._count, self._due_by(now_us()))
        return MessageTimes(
            size_bytes=self._size_bytes,
            interval_us=self._interval_us,
            sent=self._next,
            round_trip_us=self._round_trip_us[:due].copy(),
            there_us=self._there_us[:due].copy(),
            held_us=self._held_us[: self._next].copy(),
            repeated=self._repeated,
            begun_us=self._due_us(0),
        )

    def _due_by(self, now_us: int) -> int:
        """Messages that are due, at least those that were sent."""
        return max(self._next, int(max(0, now_us - self._due_us(0)) / self._interval_us))


class MessageEcho:
    """The server's end: echoes messages. Implements `contract.Load`.

    One thread calls `arrived`, another one `wait_us` and `take`; they share a deque.
    """

    def __init__(self, plan: Plan, conv: int, wake: Callable[[], None], *, datagrams: bool) -> None:
        self._size_bytes, self._count = plan.block_bytes, plan.message_count
        self._per_us = plan.messages_per_s / 1e6
        self._conv, self._datagrams, self._wake = conv, datagrams, wake
        self._frames = _Frames(self._size_bytes, datagrams=datagrams)
        self._most_waiting = max(1, MOST_WAITING_BYTES // self._size_bytes)
        self._at_once = 1 if datagrams else max(1, TAKE_BYTES // self._size_bytes)
        self._waiting: deque[bytearray] = deque()
        self._begun_us = self._arrived = 0
        self._stopped = False

    # -- the receiving thread

    def arrived(self, data: memoryview) -> None:
        """Echo messages. Raises `ProtocolError` for bytes that are none, and if there are more messages than
        the test has, or at a higher rate."""
        arrived_us = now_us()
        for message in self._frames.cut(data):
            number, _, conv = HEADER.unpack_from(message)
            if conv != self._conv or number >= self._count:
                if self._datagrams:
                    continue
                raise ProtocolError("the client sent bytes that are not a message of this test")
            if not self._admits(arrived_us):
                raise ProtocolError("the client sent messages faster than it asked for")
            if len(self._waiting) >= self._most_waiting:
                if self._datagrams:
                    continue  # lost, as in any full queue
                raise ProtocolError("the echoes leave more slowly than the client sends messages")
            echo = bytearray(message)
            HEADER.pack_into(echo, 0, number, arrived_us, conv)
            self._waiting.append(echo)
        if self._waiting:
            self._wake()

    def _admits(self, arrived_us: int) -> bool:
        """Count a message. False if the rate that was agreed on allows no further one. A path may repeat
        datagrams: of those, twice as many are allowed."""
        self._begun_us = self._begun_us or arrived_us
        self._arrived += 1
        allowed = (arrived_us - self._begun_us + EARLY_US) * self._per_us
        return self._arrived <= (1 + self._datagrams) * (allowed + 1)

    # -- the sending thread

    @property
    def may_block(self) -> bool:
        return False

    def wait_us(self, now_us: int) -> int:
        """0 if an echo waits; else the time after which to ask again, unless the channel is woken before."""
        if self._stopped:
            return FOREVER
        return 0 if self._waiting else LONGEST_WAIT_US

    def take(self) -> memoryview:
        """The echoes that leave now: one datagram, or many of a byte stream."""
        count = min(len(self._waiting), self._at_once)
        if count == 1:
            return memoryview(self._waiting.popleft())
        return memoryview(b"".join(self._waiting.popleft() for _ in range(count)))

    def stop(self) -> None:
        """Send no more echoes."""
        self._stopped = True
