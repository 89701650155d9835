"""When a datagram arrived, as the kernel has it: whoever reads late does not look like a slow path.

The kernel stamps with the wall clock (SO_TIMESTAMPNS, Linux); everything else here uses the monotonic one.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterable

SO_TIMESTAMPNS = 35
"""As nearly every machine numbers it; where it is another option, no stamp comes back."""
TIMESPEC = struct.Struct("@ll")
"""Seconds and nanoseconds, as the stamp has them."""
LOOKS = 3
LOOK_US = 100_000
LATEST_US = 50_000


def ask_for_stamps(sock: socket.socket) -> bool:
    """Whether what `sock` receives from now on is stamped."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def wall_minus_monotonic_us() -> float:
    """What to take from a stamp to have a time of the monotonic clock; changes when the wall clock is set."""
    return min(_look_at_both() for _ in range(LOOKS))[1] / 1e3


def _look_at_both() -> tuple[int, int]:
    """(how long it took, the difference) in nanoseconds: who is interrupted between the two looks again."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, wall - (before + after) // 2


def arrived_us(ancillary: Iterable[tuple[int, int, bytes]]) -> float:
    """When it arrived, by the monotonic clock: now, where there is no stamp."""
    for _, kind, value in ancillary:
        if kind == SO_TIMESTAMPNS and len(value) == TIMESPEC.size:
            seconds, rest_ns = TIMESPEC.unpack(value)
            return float(seconds * 1e6 + rest_ns / 1e3 - wall_minus_monotonic_us())
    return time.monotonic_ns() / 1e3


Ancillary = list[tuple[int, int, bytes]]


def apart(ancillary: Ancillary) -> tuple[bytes, Ancillary]:
    """The kernel's stamp among the control messages, empty when there is none, and the others."""
    for index, (_, kind, value) in enumerate(ancillary):
        if kind == SO_TIMESTAMPNS and len(value) == TIMESPEC.size:
            return value, ancillary[:index] + ancillary[index + 1 :]
    return b"", ancillary


class ArrivalClock:
    """Turns the kernel's stamps into times of the monotonic clock, cheaply enough for every run received.

    How the two clocks differ is looked up ten times a second. What comes out as later than now, or too early
    for a reader to be so late, was stamped while the wall clock was being set: then the time is now.
    """

    __slots__ = ("_difference_us", "_look_again_us")

    def __init__(self) -> None:
        self._difference_us = 0.0
        self._look_again_us = 0

    def arrived_us(self, stamp: bytes, now_us: int) -> int:
        """`stamp`: the value of a control message SO_TIMESTAMPNS; `now_us`: by the monotonic clock."""
        if now_us >= self._look_again_us:
            self._difference_us = wall_minus_monotonic_us()
            self._look_again_us = now_us + LOOK_US
        seconds, rest_ns = TIMESPEC.unpack(stamp)
        arrived_us = round(seconds * 1_000_000 + rest_ns / 1e3 - self._difference_us)
        return arrived_us if 0 <= now_us - arrived_us <= LATEST_US else now_us
