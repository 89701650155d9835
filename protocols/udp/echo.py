"""Round trips inside a UDP stream, with iperfpy at both ends: some probes per second, among the data.

    offset 0   u32 little-endian   the stream's conv
           4   u8                  1: probe, 2: its echo
           5   u16 big-endian      number
           7   u32 big-endian      echo: microseconds between the probe's arrival and the echo's departure

Both have 11 bytes, fewer than any header of the stream (12) and more than a call (4), and so cannot be
mistaken for either. The sender of the data probes, so that probes pass a NAT in both directions. The other
end answers a probe of its stream with as many bytes as it got, and answers nothing else. The delay within
the answering program is subtracted, as in NTP (RFC 5905, section 8: delay = (t4 - t1) - (t3 - t2)).
"""

from __future__ import annotations

import struct
from collections import deque

from iperfpy.protocols.log_histogram import LogHistogram

USUAL_PROBES = 10
"""Probes per second, unless a setting says otherwise: 390 bytes per second of IPv4."""
STALE_US = 2_000_000
"""Age at which a measured round trip is no longer reported."""
WAITING_S = 6.4
"""Time for which a probe awaits its echo."""
MOST_MOMENTS = 2_048
"""Arrivals of echoes that are kept, the latest ones."""
LONGEST_RTT_US = 60_000_000
_FORMAT = struct.Struct("<IB2s4s")
_PROBE, _ECHO = 1, 2

ECHO_BYTES = _FORMAT.size


class Prober:
    """The probing end. `probe` is called by the thread that sends, `take_echo` and `rtt_us` by the event
    loop's: they share single slots only, each replaced as a whole."""

    def __init__(self, conv: int, probes_per_s: int = USUAL_PROBES) -> None:
        self._conv = conv
        self._count = 0
        self.interval_us = 1_000_000 // probes_per_s
        self._most_waiting = round(WAITING_S * probes_per_s)
        self._waiting: list[tuple[int, int]] = [(-1, 0)] * self._most_waiting  # (number, sent_us)
        self._latest: tuple[float, float] | None = None  # (rtt_us, arrived_us)
        self.rtts = LogHistogram()
        self.arrivals_us: deque[float] = deque(maxlen=MOST_MOMENTS)
        self.next_us = 0

    def probe(self, now_us: int) -> bytes:
        """Make the next probe, which leaves now, and set the time of the one after it (`next_us`)."""
        self._count += 1
        number = self._count & 0xFFFF
        self._waiting[number % self._most_waiting] = (number, now_us)
        self.next_us = now_us + self.interval_us
        return _FORMAT.pack(self._conv, _PROBE, number.to_bytes(2, "big"), bytes(4))

    def unsent(self) -> None:
        """Make another probe due, because there was no room for the last one. The round trip
        does not include the wait for room."""
        self._waiting[(self._count & 0xFFFF) % self._most_waiting] = (-1, 0)
        self.next_us = 0

    def take_echo(self, datagram: bytes, arrived_us: float) -> None:
        """Take a datagram of the other end; all but awaited echoes are ignored."""
        if len(datagram) != ECHO_BYTES:
            return
        conv, kind, number_bytes, delay_bytes = _FORMAT.unpack(datagram)
        number = int.from_bytes(number_bytes, "big")
        waiting, sent_us = self._waiting[number % self._most_waiting]
        if conv != self._conv or kind != _ECHO or waiting != number:
            return
        # An echo counts once: a duplicated datagram would measure the path of its copy.
        self._waiting[number % self._most_waiting] = (-1, 0)
        rtt_us = arrived_us - sent_us - int.from_bytes(delay_bytes, "big")
        if 0 <= rtt_us <= LONGEST_RTT_US:
            self._latest = (rtt_us, arrived_us)
            self.rtts.add(rtt_us)
            self.arrivals_us.append(arrived_us)

    def rtt_us(self, now_us: int) -> float | None:
        """The round-trip time measured last, microseconds; None without one younger than `STALE_US`."""
        if self._latest is None or now_us - self._latest[1] > STALE_US:
            return None
        return self._latest[0]


def answer(datagram: bytes, conv: int, delay_us: float) -> bytes:
    """Make the echo of a probe; empty if `datagram` is not a probe of this stream.

    Parameters
    ----------
    conv : the stream's conv, or 0 if the other end never probes
    delay_us : time since the probe arrived
    """
    if not conv or len(datagram) != ECHO_BYTES:
        return b""
    # A datagram of another stream, or an echo, gets no answer: two ends must not answer each other for ever.
    named, kind, number_bytes, _ = _FORMAT.unpack(datagram)
    if named != conv or kind != _PROBE:
        return b""
    delay = min(max(0, round(delay_us)), 0xFFFF_FFFF)
    return _FORMAT.pack(conv, _ECHO, number_bytes, delay.to_bytes(4, "big"))
