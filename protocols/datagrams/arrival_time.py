"""Arrival times of datagrams from the kernel, so that a program that reads late does not look like a slow
path.

The kernel stamps with the wall clock (SO_TIMESTAMPNS, Linux). Everything else uses the monotonic clock, so
the difference of the two is measured and subtracted.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable

from iperfpy.protocols.operating_system import SO_TIMESTAMPNS, Ancillary, monotonic_ns

TIMESPEC = struct.Struct("@ll")
"""The stamp: seconds and nanoseconds."""
COMPARISONS = 3
"""Comparisons of the two clocks; the quickest one counts."""
COMPARE_EVERY_US = 100_000
LATEST_US = 50_000
"""Longest delay between arrival and read that is believed."""


def ask_for_stamps(sock: socket.socket) -> bool:
    """Ask the kernel to stamp the datagrams of `sock`. True if it does."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def wall_minus_monotonic_us() -> float:
    """The difference of the two clocks: subtract it from a stamp to get a time of the monotonic clock. It
    changes when the wall clock is set."""
    return min(_compare_clocks() for _ in range(COMPARISONS))[1] / 1e3


def _compare_clocks() -> tuple[int, int]:
    """(duration of the comparison, difference) in nanoseconds. An interruption between the two readings shows
    as a long duration."""
    before = monotonic_ns()
    wall = time.time_ns()
    after = monotonic_ns()
    return after - before, wall - (before + after) // 2


def arrived_us(ancillary: Iterable[tuple[int, int, bytes]]) -> float:
    """The arrival time by the monotonic clock, from the control messages of one `recvmsg`; the present time
    without a stamp."""
    for _, kind, value in ancillary:
        if kind == SO_TIMESTAMPNS and len(value) == TIMESPEC.size:
            seconds, rest_ns = TIMESPEC.unpack(value)
            return float(seconds * 1e6 + rest_ns / 1e3 - wall_minus_monotonic_us())
    return monotonic_ns() / 1e3


def split_off_stamp(ancillary: Ancillary) -> tuple[bytes, Ancillary]:
    """(the kernel's stamp, the other control messages); the stamp is empty if there is none."""
    for index, (_, kind, value) in enumerate(ancillary):
        if kind == SO_TIMESTAMPNS and len(value) == TIMESPEC.size:
            return value, ancillary[:index] + ancillary[index + 1 :]
    return b"", ancillary


class ArrivalClock:
    """Turns the kernel's stamps into times of the monotonic clock, fast enough for every batch.

    The clocks are compared ten times a second. A result in the future, or more than `LATEST_US` ago, comes
    from a wall clock that was set in between: the present time takes its place.
    """

    __slots__ = ("_compare_again_us", "_difference_us")

    def __init__(self) -> None:
        self._difference_us = 0.0
        self._compare_again_us = 0

    def arrived_us(self, stamp: bytes, now_us: int) -> int:
        """The time of `stamp`, the value of a control message SO_TIMESTAMPNS, by the monotonic clock."""
        if now_us >= self._compare_again_us:
            self._difference_us = wall_minus_monotonic_us()
            self._compare_again_us = now_us + COMPARE_EVERY_US
        seconds, rest_ns = TIMESPEC.unpack(stamp)
        arrived_us = round(seconds * 1_000_000 + rest_ns / 1e3 - self._difference_us)
        return arrived_us if 0 <= now_us - arrived_us <= LATEST_US else now_us
