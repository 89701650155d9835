"""Round trips inside a UDP stream, between two iperfpy: a few probes per second, among the data.

    offset 0   u32 little-endian   the stream's conv
           4   u8                  1: probe, 2: its echo
           5   u16 big-endian      number
           7   u32 big-endian      echo: microseconds between the probe's arrival and the echo's departure

11 bytes, so both are shorter than any header of the stream (12) and longer than a call (4): they can be taken
for neither. The sender of the data probes, so that it works in both directions through a NAT; the other end
answers a probe of its stream with as many bytes as it got, and nothing else with anything. What the answering
program was slow by is taken out, as NTP does (RFC 5905, section 8: delay = (t4 - t1) - (t3 - t2)).
"""

from __future__ import annotations

import struct

PROBE_US = 100_000
"""Between two probes: 390 bytes per second of IPv4."""
STALE_US = 2_000_000
"""A round trip that was measured so long ago is not the present one."""
MOST_WAITING = 64
"""Probes whose echo may still come: more than six seconds' worth."""
LONGEST_RTT_US = 60_000_000
_FORMAT = struct.Struct("<IB2s4s")
_PROBE, _ECHO = 1, 2

ECHO_BYTES = _FORMAT.size


class Prober:
    """The end that asks. `probe` is called by the thread that sends, `hear` and `rtt_us` by the event loop's:
    they share only single slots, each written as one."""

    def __init__(self, conv: int) -> None:
        self._conv = conv
        self._count = 0
        self._waiting: list[tuple[int, int]] = [(-1, 0)] * MOST_WAITING  # (number, sent_us)
        self._latest: tuple[float, float] | None = None  # (rtt_us, arrived_us)
        self.next_us = 0

    def probe(self, now_us: int) -> bytes:
        """The next probe, which leaves now; `next_us` is when the one after it is due."""
        self._count += 1
        number = self._count & 0xFFFF
        self._waiting[number % MOST_WAITING] = (number, now_us)
        self.next_us = now_us + PROBE_US
        return _FORMAT.pack(self._conv, _PROBE, number.to_bytes(2, "big"), bytes(4))

    def delayed(self, now_us: int) -> None:
        """The probe made last had to wait for room in the socket, and has left only now."""
        number = self._count & 0xFFFF
        if self._waiting[number % MOST_WAITING][0] == number:
            self._waiting[number % MOST_WAITING] = (number, now_us)

    def hear(self, said: bytes, arrived_us: float) -> None:
        """Take what came from the other end; anything but an echo that is waited for is ignored."""
        if len(said) != ECHO_BYTES:
            return
        conv, kind, number_bytes, held_bytes = _FORMAT.unpack(said)
        number = int.from_bytes(number_bytes, "big")
        waiting, sent_us = self._waiting[number % MOST_WAITING]
        if conv != self._conv or kind != _ECHO or waiting != number:
            return
        self._waiting[number % MOST_WAITING] = (-1, 0)
        rtt_us = arrived_us - sent_us - int.from_bytes(held_bytes, "big")
        if 0 <= rtt_us <= LONGEST_RTT_US:
            self._latest = (rtt_us, arrived_us)

    def rtt_us(self, now_us: int) -> float | None:
        """The round trip measured last; None when that is too long ago."""
        if self._latest is None or now_us - self._latest[1] > STALE_US:
            return None
        return self._latest[0]


def answer(said: bytes, conv: int, held_us: float) -> bytes:
    """The echo of a probe, or nothing when `said` is none of this stream.

    Parameters
    ----------
    conv : 0: the other end never probes
    held_us : since the probe arrived
    """
    if not conv or len(said) != ECHO_BYTES:
        return b""
    named, kind, number_bytes, _ = _FORMAT.unpack(said)
    if named != conv or kind != _PROBE:
        return b""
    held = min(max(0, round(held_us)), 0xFFFF_FFFF)
    return _FORMAT.pack(conv, _ECHO, number_bytes, held.to_bytes(4, "big"))
