"""A model of the two stock implementations of KCP, with switches, one segment at a time.

skywind3000/kcp ("ikcp", C) and xtaci/kcp-go read the same wire and differ in a dozen rules. Each is a field
of `Rules`, so that its effect on a path can be measured by turning it alone. `IKCP` sends the same bytes at
the same time as the C library (tested); our `StockRecovery` follows `KCP_GO`. The model is written for
clarity: plain dictionaries, milliseconds, no congestion control (nc=1, as nearly every user runs it).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.settings import Tuning
from tests.peers.ikcp import HEADER_BYTES, MSS, MTU, Tally, grouped

PUSH, ACK, WINS = 81, 82, 84
_LAYOUT = struct.Struct("<IBBHIIII")
_INITIAL_RTO_MS, _LONGEST_RTO_MS = 200, 60_000
_BLOCK = 48  # segments that the application writes at a time


@dataclass(frozen=True, slots=True)
class Rules:
    """The differences between the two; the defaults are kcp-go's.

    each_ack : every ACK passes the segments below it; ikcp: only the highest of a datagram does
    by_stamp : an ACK passes only segments sent no later than the stamp it echoes
    early : a flush that admits nothing new resends every segment that was passed at all
    fast_limit : a segment sent more often than this is not resent fast any more; 0 for no limit
    timeout_first : a segment both passed and expired counts as expired, and stays passed
    backoff_own : an expired timer grows by its own value (half of it with nodelay), not by the path's RTO
    rearm : a fast resend takes the path's present RTO
    margin : without nodelay the first timer is an eighth longer
    sample_each : every ACK gives an RTT sample; kcp-go: the last of a datagram
    damped : samples below the usual range move the variation by 1/32 only, and all rounding is down
    ack_all : every PUSH is acknowledged by itself; kcp-go: those below una are not, but for the last
    acked_slides : the window starts at the first segment not acknowledged, not at una
    at_once : a window that moved is flushed at once, and so are ACKs; ikcp: ticks only
    nearest : the clock also ticks when the nearest timer expires
    unread : ACKs leave before the application has read, and advertise a window without the unread segments
    first_window : segments that a peer is assumed to accept until it advertises its window
    """

    each_ack: bool = True
    by_stamp: bool = True
    early: bool = True
    fast_limit: int = 0
    timeout_first: bool = False
    backoff_own: bool = False
    rearm: bool = True
    margin: bool = False
    sample_each: bool = False
    damped: bool = True
    ack_all: bool = False
    acked_slides: bool = False
    at_once: bool = True
    nearest: bool = True
    unread: bool = True
    first_window: int = 32


KCP_GO = Rules()
IKCP = Rules(
    each_ack=False,
    by_stamp=False,
    early=False,
    fast_limit=5,
    timeout_first=True,
    backoff_own=True,
    rearm=False,
    margin=True,
    sample_each=True,
    damped=False,
    ack_all=True,
    acked_slides=True,
    at_once=False,
    nearest=False,
    unread=False,
    first_window=128,
)


@dataclass(slots=True)
class Sent:
    """A segment in flight."""

    stamp_ms: int = 0
    resend_ms: int = 0
    rto_ms: int = 0
    passed: int = 0
    transmissions: int = 0


class RttMs:
    """RTT estimation of both implementations, in their integer arithmetic."""

    def __init__(self, tuning: Tuning, damped: bool) -> None:
        self._floor_ms, self._interval_ms = 30 if tuning.nodelay else 100, tuning.interval
        self._damped = damped
        self.srtt = self.variation = 0
        self.rto_ms = _INITIAL_RTO_MS

    def take(self, rtt: int) -> None:
        if not self.srtt:
            self.srtt, self.variation = rtt, rtt // 2
        elif self._damped:
            difference = rtt - self.srtt
            self.srtt += difference >> 3
            weight = 5 if rtt < self.srtt - self.variation else 2
            self.variation += (abs(difference) - self.variation) >> weight
        else:
            self.variation = (3 * self.variation + abs(rtt - self.srtt)) // 4
            self.srtt = max(1, (7 * self.srtt + rtt) // 8)
        rto = self.srtt + max(self._interval_ms, 4 * self.variation)
        self.rto_ms = min(max(self._floor_ms, rto), _LONGEST_RTO_MS)


class Reassembly:
    """The receiving half: segments in order, and the window that is advertised.

    Attributes
    ----------
    next_sn : next serial number in order
    unread : segments in order that the application has not read: they reduce the advertised window
    acks : (sn, stamp) of segments to acknowledge
    reopened : True if the window was full and is open again
    """

    def __init__(self, limit: int) -> None:
        self.next_sn = self.unread = 0
        self.acks: list[tuple[int, int]] = []
        self.reopened = False
        self._limit = limit
        self._stored: set[int] = set()

    def insert(self, sn: int, stamp_ms: int) -> int:
        """Take a segment, unless it is beyond the window; return how many segments came into order."""
        if sn >= self.next_sn + self._limit:
            return 0
        self.acks.append((sn, stamp_ms))
        if sn >= self.next_sn:
            self._stored.add(sn)
        first = self.next_sn
        while self.next_sn in self._stored:
            self._stored.remove(self.next_sn)
            self.next_sn += 1
        self.unread += self.next_sn - first
        return self.next_sn - first

    def read(self) -> None:
        """Let the application read all segments in order."""
        self.reopened = self.reopened or self.unread >= self._limit
        self.unread = 0

    def window(self, rules: Rules) -> int:
        """Return the window to advertise."""
        return min(self._limit, 65_535) - (self.unread if rules.unread else 0)


class Stock:
    """One end that follows the rules; the other parameters are those of `Ikcp`.

    Attributes
    ----------
    lost, fast, early : retransmissions by cause, as kcp-go counts them
    """

    def __init__(
        self, conv: int, tuning: Tuning, send_window: int, receive_window: int, rules: Rules = KCP_GO
    ) -> None:
        self.tally, self.rules = Tally(), rules
        self.lost = self.fast = self.early = 0
        self.rtt = RttMs(tuning, rules.damped)
        self._conv, self._tuning = conv, tuning
        self._send_window = send_window
        self._peer_window = rules.first_window
        self._una = self._next_sn = 0
        self._flight: dict[int, Sent] = {}  # ascending
        self._queued = 0
        self._receiving = Reassembly(receive_window)
        self._tick_ms = 0
        self._written = False
        self._out: list[bytes] = []

    # -- as the application sees it

    def writable(self) -> int:
        """Payload bytes accepted now; writers of kcp-go wait for less than a window, and write a block."""
        waiting = self._queued + (len(self._flight) if self.rules.acked_slides else self._next_sn - self._una)
        if self.rules.at_once:
            return _BLOCK * MSS if waiting < min(self._send_window, self._peer_window) else 0
        return max(0, 2 * self._send_window - waiting) * MSS

    def write(self, data: memoryview, now_us: int) -> int:
        size = min(len(data), self.writable()) // MSS * MSS
        self._queued += size // MSS
        self._written = size > 0 and self.rules.at_once
        return size

    # -- as the simulation sees it

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        for view in batch:
            self._tick(now_us // 1_000)
            datagram = view.tobytes()
            self.tally.arrived(datagram)
            self._input(datagram, now_us // 1_000)
            self._receiving.read()

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        now = now_us // 1_000
        self._tick(now)
        if self._written:
            self._written = False
            self._flush(now)
        out, self._out = self._out, []
        return grouped(out)

    def _tick(self, now: int) -> None:
        """Flush at every tick up to now, even if nothing was called at that time."""
        while self._tick_ms <= now:
            nearest_ms = self._flush(self._tick_ms)
            self._tick_ms += nearest_ms if self.rules.nearest else self._tuning.interval

    def deadline_us(self) -> int | None:
        return self._tick_ms * 1_000

    # -- in

    def _input(self, datagram: bytes, now: int) -> None:
        at, acked, una_before = 0, [], self._una
        while at < len(datagram):
            _, cmd, _, wnd, ts, sn, una, length = _LAYOUT.unpack_from(datagram, at)
            at += HEADER_BYTES + length
            self._peer_window = wnd
            self._advance(una)
            if cmd == ACK:
                self._acknowledge(sn, ts, now)
                acked.append((sn, ts))
            elif cmd == PUSH:
                self.tally.delivered_bytes += length * self._receiving.insert(sn, ts)
        if acked and not self.rules.each_ack:
            self._pass(*max(reversed(acked), key=lambda ack: ack[0]))  # the first of equals
        if acked and not self.rules.sample_each:
            self.rtt.take(now - acked[-1][1])
        if self.rules.at_once and self._una > una_before:
            self._flush(now)
        elif self.rules.at_once:
            self._flush_acks()

    def _advance(self, una: int) -> None:
        while self._flight and (first := next(iter(self._flight))) < una:
            del self._flight[first]
        if self.rules.acked_slides:
            self._una = next(iter(self._flight), self._next_sn)
        else:
            self._una = max(self._una, una)

    def _acknowledge(self, sn: int, ts: int, now: int) -> None:
        if self.rules.sample_each:
            self.rtt.take(now - ts)
        within = self._una <= sn < self._next_sn
        if within:
            self._flight.pop(sn, None)
        if within and self.rules.each_ack:
            self._pass(sn, ts)
        if self.rules.acked_slides:
            self._advance(0)

    def _pass(self, sn: int, ts: int) -> None:
        if not self._una <= sn < self._next_sn:
            return
        for number, sent in self._flight.items():
            if number >= sn:
                break
            if sent.stamp_ms <= ts or not self.rules.by_stamp:
                sent.passed += 1

    # -- out

    def _flush_acks(self, reopened: bool = False) -> None:
        receiving = self._receiving
        packed, stamp, number = b"", 0, 0
        for i, (sn, ts) in enumerate(receiving.acks):
            if self.rules.ack_all or sn >= receiving.next_sn or i == len(receiving.acks) - 1:
                if len(packed) + HEADER_BYTES > MTU:
                    self._emit(packed)
                    packed = b""
                packed += self._header(ACK, ts, sn, 0)
                stamp, number = ts, sn
        if reopened:
            packed += self._header(WINS, stamp, number, 0)  # with the fields of the last ACK
        if packed:
            self._emit(packed)
        receiving.acks = []

    def _flush(self, now: int) -> int:
        """Send everything due; returns ms to the nearest timer, `interval` at most."""
        self._flush_acks(self._receiving.reopened)
        self._receiving.reopened = False
        # All new segments enter the flight first, so that `early` knows whether any is admitted.
        window = min(self._send_window, self._peer_window)
        admitted = max(0, min(self._queued, self._una + window - self._next_sn))
        for sn in range(self._next_sn, self._next_sn + admitted):
            self._flight[sn] = Sent()
        self._next_sn += admitted
        self._queued -= admitted
        nearest_ms = self._tuning.interval
        for sn, sent in self._flight.items():
            if self._due(sent, now, admitted):
                sent.stamp_ms, sent.transmissions = now, sent.transmissions + 1
                self._emit(self._header(PUSH, now, sn, MSS) + bytes(MSS))
            if 0 < sent.resend_ms - now < nearest_ms:
                nearest_ms = sent.resend_ms - now
        return nearest_ms

    def _due(self, sent: Sent, now: int, admitted: int) -> bool:
        rules, resend = self.rules, self._tuning.resend
        if not sent.transmissions:
            margin_ms = self.rtt.rto_ms >> 3 if rules.margin and not self._tuning.nodelay else 0
            self._arm(sent, now, self.rtt.rto_ms, margin_ms)
            return True
        if rules.timeout_first and now >= sent.resend_ms:
            return self._expire(sent, now)
        # The order of the causes is part of the rules: it decides which counter grows.
        limited = 0 < rules.fast_limit < sent.transmissions
        if 0 < resend <= sent.passed and not limited:
            self.fast += 1
            sent.passed = 0
            self._arm(sent, now, self.rtt.rto_ms if rules.rearm else sent.rto_ms)
            return True
        if rules.early and sent.passed and not admitted:
            self.early += 1
            sent.passed = 0
            self._arm(sent, now, self.rtt.rto_ms)
            return True
        if now >= sent.resend_ms:
            sent.passed = 0
            return self._expire(sent, now)
        return False

    def _expire(self, sent: Sent, now: int) -> bool:
        self.lost += 1
        rto_ms, nodelay = self.rtt.rto_ms, self._tuning.nodelay
        if not self.rules.backoff_own:
            step_ms = rto_ms // 2 if nodelay else rto_ms
        else:
            step_ms = sent.rto_ms // 2 if nodelay else max(sent.rto_ms, rto_ms)
        self._arm(sent, now, sent.rto_ms + step_ms)
        return True

    def _arm(self, sent: Sent, now: int, rto_ms: int, margin_ms: int = 0) -> None:
        sent.rto_ms, sent.resend_ms = rto_ms, now + rto_ms + margin_ms

    def _header(self, cmd: int, ts: int, sn: int, length: int) -> bytes:
        window = self._receiving.window(self.rules)
        return _LAYOUT.pack(self._conv, cmd, 0, window, ts, sn, self._receiving.next_sn, length)

    def _emit(self, datagram: bytes) -> None:
        self.tally.left(datagram)
        self._out.append(datagram)
