"""Reports of arrived datagrams, from which the sender learns the loss of the path before any recovery.

    receiver: Arrivals.note      counts datagrams, data and parity, and knows the newest one
              Arrivals.report -> an out-of-band datagram, with what leaves anyway, ten times a second at most
    sender:   SentLog.note       tells how many datagrams had left up to any sequence number
              SentLog.losses  <- a report: what left between two reports, less what arrived

It is RTCP's receiver report (RFC 3550, 6.4.1): the highest sequence number and a cumulative count, so that a
lost report costs nothing. Acknowledgements cannot tell as much: a datagram that is restored before the next
one is acknowledged leaves no trace in them, and in sets with one data datagram that is the rule.

    | 0xffffffff u32 | type 0xf3 u16 | size u16 = 10 | newest u32 | datagrams u32 |
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

import numpy as np

from iperfpy.protocols.kcp.envelope.fec_header import OUT_OF_BAND
from iperfpy.protocols.kcp.envelope.fec_numbers import SelfDescribing
from iperfpy.protocols.kcp.wire import Bytes, Int64s

REPORT = struct.Struct("<IHHII")
INTERVAL_US = 100_000
"""Least time between two reports."""
MOST_ENTRIES = 256
"""Changes of the sets that the sender remembers: reports are younger than that."""
_NO_NUMBER, _SIZE = 0xFFFF_FFFF, 10
_WRAP = 1 << 32


class Report(NamedTuple):
    """The newest sequence number that has arrived, and the datagrams that have arrived, modulo 2^32."""

    newest: int
    datagrams: int


def read_report(datagram: Bytes) -> Report | None:
    """The report in an out-of-band datagram; None if it holds something else."""
    if len(datagram) != REPORT.size:
        return None
    _, _, size, newest, datagrams = REPORT.unpack(datagram.tobytes())
    return Report(newest, datagrams) if size == _SIZE else None


class Arrivals:
    """The receiver's count of one direction."""

    __slots__ = ("_changed", "_datagrams", "_newest", "_numbering", "_reported_us")

    def __init__(self, numbering: SelfDescribing) -> None:
        self._numbering = numbering
        self._datagrams = 0
        self._newest: int | None = None
        self._changed = False
        self._reported_us = -INTERVAL_US

    def note(self, seqids: Int64s) -> None:
        """Count datagrams with these sequence numbers, (n,), n > 0, in order of arrival."""
        self._datagrams += len(seqids)
        self._changed = True
        last = int(seqids[-1])
        if self._newest is None or self._is_newer(last, self._newest):
            self._newest = last

    def _is_newer(self, one: int, other: int) -> bool:
        (one_set, one_index), (other_set, other_index) = map(self._numbering.order, (one, other))
        ahead = (one_set - other_set) % self._numbering.sets
        return one_index > other_index if not ahead else ahead < self._numbering.sets // 2

    def report(self, now_us: int) -> Bytes | None:
        """The datagram to send now, if there is news and the last report is old enough."""
        if not self._changed or self._newest is None or now_us - self._reported_us < INTERVAL_US:
            return None
        self._changed, self._reported_us = False, now_us
        content = REPORT.pack(_NO_NUMBER, OUT_OF_BAND, _SIZE, self._newest, self._datagrams % _WRAP)
        return np.frombuffer(content, np.uint8)


class Losses(NamedTuple):
    """Datagrams that left between two reports, and those of them that did not arrive: fewer than none if some
    of an earlier period came late."""

    sent: int
    lost: int


class _Entry(NamedTuple):
    """The sets from `number` on have this many datagrams each; `before` had left when it began."""

    number: int
    before: int
    datagrams: int


class SentLog:
    """The sender's account of its datagrams by sequence number."""

    __slots__ = ("_arrived", "_entries", "_left", "_numbering")

    def __init__(self, numbering: SelfDescribing) -> None:
        self._numbering = numbering
        self._entries: deque[_Entry] = deque(maxlen=MOST_ENTRIES)
        self._left = self._arrived = 0  # by the last report

    def note(self, number: int, before: int, datagrams: int) -> None:
        """From set `number` on, a set has so many datagrams. `before`: datagrams that left before."""
        if self._entries and self._entries[-1].number == number:
            self._entries.pop()
        self._entries.append(_Entry(number, before, datagrams))

    def losses(self, report: Report, number: int) -> Losses | None:
        """The losses since the last report; None if it tells nothing new, or something impossible.

        Parameters
        ----------
        number : of the newest set
        """
        low, index = self._numbering.order(report.newest)
        about = number - (number - low) % self._numbering.sets
        entry = next((entry for entry in reversed(self._entries) if entry.number <= about), None)
        if entry is None or index >= entry.datagrams:
            return None
        left = entry.before + (about - entry.number) * entry.datagrams + index + 1
        sent, arrived = left - self._left, (report.datagrams - self._arrived) % _WRAP
        # Those that were late in the last report are counted in this one: at most as many as left before it.
        if sent <= 0 or arrived > left:
            return None
        self._left, self._arrived = left, report.datagrams
        return Losses(sent, sent - arrived)
