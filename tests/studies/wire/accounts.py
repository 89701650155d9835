"""Accounts of one stream from its packets: sent, retransmitted, arrived, acknowledged, and round-trip times.

    sender's device    departures: every transmission of data, first or repeated; acknowledgements and their
    times receiver's device  arrivals: payload in the order in which a reader gets it

One reader for each wire format. They share neither parsing nor arithmetic with the programs that they check.
"""

from __future__ import annotations

import heapq
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.studies.wire.capture import TCP, UDP, Packet

Floats = NDArray[np.float64]
COOKIE_BYTES = 37
EXCHANGE_RESULTS = b"\x0d"
KCP_PUSH, KCP_ACK, KCP_ACK_RANGES, KCP_PROBE = 81, 82, 86, 255
SYN, ACK = 0x02, 0x10
UDP_ECHO_BYTES, UDP_PROBE, UDP_ECHO = 11, 1, 2
PROOF_BYTES = 10
_KCP = struct.Struct("<IBBHIIII")
_UDP_DATA = struct.Struct("!III")


@dataclass(frozen=True, slots=True)
class Curve:
    """A growing total: `total[i]` from time `us[i]` on, 0 before `us[0]`."""

    us: Floats
    total: Floats

    @classmethod
    def of(cls, points: Iterable[tuple[float, float]]) -> Curve:
        """Build it from times and totals, in order; points at which nothing was added are left out."""
        grown: list[tuple[float, float]] = []
        for us, total in points:
            if total > (grown[-1][1] if grown else 0):
                grown.append((us, total))
        array = np.array(grown, np.float64).reshape(-1, 2)
        return cls(array[:, 0], array[:, 1])

    def at(self, us: float) -> float:
        index = int(np.searchsorted(self.us, us, "right"))
        return float(self.total[index - 1]) if index else 0.0

    def when(self, total: float) -> Floats:
        """Give the interval (from, until) in which the total had this value."""
        index = int(np.searchsorted(self.total, total, "right"))
        first = self.us[index - 1] if index else -np.inf
        last = self.us[index] if index < len(self.us) else np.inf
        return np.array((first, last))


@dataclass(frozen=True, slots=True)
class Wire:
    """One stream.

    `sent_us`, `again`: one entry per transmission of data, in order, and True if that data had been sent
    before. `vouched`: payload that the sender may count (acknowledged for KCP, sent once for TCP and UDP).
    `delivered`: payload that the receiver may count. `rtt`: rows (time, microseconds). `arrived_us`: of data
    segments or datagrams at the receiver, repeats included. `lost_percent`: of those sent, up to the last
    one that arrived. `jitter_us`: after each arrival. `at_sender`, `at_receiver`: further
    counts of that end, under the names of its figures. `smoothing`: the weight of one sample in the reported
    round-trip time. `until_us`: the receiver counts arrivals until then; None: not known.
    """

    sent_us: Floats
    again: NDArray[np.bool_]
    vouched: Curve
    delivered: Curve
    rtt: Floats
    arrived_us: Floats
    lost_percent: float
    jitter_us: Floats | None = None
    at_sender: Mapping[str, Curve] = field(default_factory=dict)
    at_receiver: Mapping[str, Curve] = field(default_factory=dict)
    smoothing: float = 1 / 8
    until_us: float | None = None

    def repeats_among(self, transmissions: int) -> int:
        """Count the repeats among the first `transmissions`."""
        return int(np.count_nonzero(self.again[:transmissions]))

    def mean_srtt_us(self, end_us: float) -> float:
        """Smooth the round-trip time as the report does (RFC 6298, 2.3), averaged over time from the first
        sample to `end_us`."""
        if not len(self.rtt):
            return float("nan")
        smoothed, value = np.empty(len(self.rtt)), self.rtt[0, 1]
        for index, sample in enumerate(self.rtt[:, 1]):
            value += (sample - value) * self.smoothing
            smoothed[index] = value
        held = np.diff(np.append(np.minimum(self.rtt[:, 0], end_us), max(end_us, self.rtt[0, 0])))
        return float(np.average(smoothed, weights=held)) if held.any() else float(value)


def _rows(points: Sequence[tuple[float, float]]) -> Floats:
    return np.array(points, np.float64).reshape(-1, 2)


def counted_until_us(receiver: Sequence[Packet], *, reverse: bool) -> float | None:
    """Find the receiver's first message after the end of the test: it has finished counting by then. A server
    sends EXCHANGE_RESULTS itself; a client receives it, and answers."""
    control_messages = [
        (packet.us, packet.out, packet.body[4 * (packet.body[12] >> 4) :])
        for packet in receiver
        if packet.protocol == TCP
    ]
    over = next(
        (us for us, out, payload in control_messages if payload == EXCHANGE_RESULTS and out != reverse), None
    )
    if over is None or not reverse:
        return over
    return next((us for us, out, payload in control_messages if us > over and out and payload), None)


# ---------------------------------------------------------------------- KCP


def kcp(sender: Sequence[Packet], receiver: Sequence[Packet]) -> Wire:
    """Account for a KCP stream from the packets at the sender's and the receiver's device."""
    left = [packet for packet in sender if _is_kcp(packet) and packet.out]
    sent: list[tuple[float, int]] = []
    sizes: dict[int, int] = {}
    stamped: dict[
        int, float
    ] = {}  # One system call gives all its datagrams one stamp: the departure of the first.
    again = []
    for packet in left:
        for command, stamp, number, _, size in _kcp_segments(packet):
            if command == KCP_PUSH:
                again.append(number in sizes)
                sent.append((packet.us, number))
                sizes[number] = size
                stamped.setdefault(stamp, packet.us)
    vouched, rtt = _kcp_acknowledged(sender, sizes, stamped)
    arrivals = [
        (packet.us, number, size)
        for packet in receiver
        if packet.protocol == UDP and not packet.out
        for command, _, number, _, size in _kcp_segments(packet)
        if command == KCP_PUSH
    ]
    lost = len(sent) - len(arrivals)
    return Wire(
        np.array([us for us, _ in sent]),
        np.array(again, np.bool_),
        vouched,
        _in_order((us, number, number + 1, size) for us, number, size in arrivals),
        rtt,
        np.array([us for us, _, _ in arrivals]),
        100.0 * lost / max(1, len(sent)),
        at_sender=_datagrams(left, "sent"),
        at_receiver=_datagrams([each for each in receiver if _is_kcp(each) and not each.out], "received")
        | {"acks_sent": _kcp_acks(receiver)},
    )


def _is_kcp(packet: Packet) -> bool:
    """True if the packet is a datagram of KCP, and not of the proof of the client's address."""
    return packet.protocol == UDP and len(packet.body) != 8 + PROOF_BYTES


def _datagrams(packets: Sequence[Packet], name: str) -> dict[str, Curve]:
    """Count datagrams and their payload bytes."""
    sizes = np.cumsum([len(packet.body) - 8 for packet in packets])
    counted = Curve.of((packet.us, count) for count, packet in enumerate(packets, 1))
    weighed = Curve.of((packet.us, float(size)) for packet, size in zip(packets, sizes, strict=True))
    return {f"datagrams_{name}": counted, f"wire_bytes_{name}": weighed}


def _kcp_acks(receiver: Sequence[Packet]) -> Curve:
    points, total = [], 0
    for packet in receiver:
        if packet.protocol == UDP and packet.out:
            commands = [command for command, *_ in _kcp_segments(packet)]
            total += commands.count(KCP_ACK) + commands.count(KCP_ACK_RANGES)
            points.append((packet.us, total))
    return Curve.of(points)


def _kcp_segments(packet: Packet) -> Iterator[tuple[int, int, int, int, int]]:
    """Give (command, stamp, number, first unacknowledged, length) of each segment."""
    at, body = 8, packet.body
    while at + _KCP.size <= len(body):
        _, command, fragment, _, stamp, number, una, size = _KCP.unpack_from(body, at)
        at += _KCP.size + size
        if command != KCP_PUSH or fragment != KCP_PROBE:  # a probe of the path is no data
            yield command, stamp, number, una, size


def _kcp_acknowledged(
    sender: Sequence[Packet], sizes: dict[int, int], stamped: dict[int, float]
) -> tuple[Curve, Floats]:
    """Collect acknowledged payload, selective and cumulative, and one round-trip time per datagram of
    ACKs."""
    known: set[int] = set()
    points, rtt, total, below = [], [], 0, 0
    for packet in sender:
        if packet.protocol != UDP or packet.out:
            continue
        newest = -1.0
        for command, stamp, number, una, _ in _kcp_segments(packet):
            # A cumulative ACK covers every number below it; `known` has those acknowledged before.
            fresh = set(range(below, una)) - known
            below = max(below, una)
            if command == KCP_ACK and number in sizes and number not in known:
                fresh.add(number)
            if command == KCP_ACK:
                newest = max(newest, stamped.get(stamp, -1.0))
            known |= fresh
            total += sum(sizes.get(each, 0) for each in fresh)
        for stamp, held_us, numbers in _kcp_ranges(packet):
            fresh = {number for number in numbers if number in sizes} - known
            known |= fresh
            total += sum(sizes[each] for each in fresh)
            # The receiver held the acknowledgement back: that is no part of the round trip.
            if stamp in stamped and held_us is not None:
                newest = max(newest, stamped[stamp] + held_us)
        points.append((packet.us, total))
        if newest >= 0:
            rtt.append((packet.us, packet.us - newest))
    return Curve.of(points), _rows(rtt)


def _kcp_ranges(packet: Packet) -> Iterator[tuple[int, float | None, set[int]]]:
    """Give of each acknowledgement in ranges: the newest stamp, the time since it arrived, and the segments.

    After the header: clock u32, age u16 in units of 2 us (65535: not known), serial u16; as many rows as
    `fragment` says: first u32, count u16 (bit 15 is a flag), age u16, stamp u32; ranges above una: start u16,
    stop u16.
    """
    at, body = 8, packet.body
    while at + _KCP.size <= len(body):
        _, command, rows, _, stamp, _, una, size = _KCP.unpack_from(body, at)
        content = body[at + _KCP.size : at + _KCP.size + size]
        at += _KCP.size + size
        if command != KCP_ACK_RANGES:
            continue
        _, age, _ = struct.unpack_from("<IHH", content)
        numbers: set[int] = set()
        for first, count, _, _ in struct.iter_unpack("<IHHI", content[8 : 8 + 12 * rows]):
            numbers.update(range(first, first + (count & 0x7FFF)))
        for start, stop in struct.iter_unpack("<HH", content[8 + 12 * rows :]):
            numbers.update(range(una + start, una + stop))
        yield stamp, None if age == 0xFFFF else 2.0 * age, numbers


def _in_order(pieces: Iterable[tuple[float, int, int, int]]) -> Curve:
    """Give the payload readable in order, from pieces (time, first, last + 1, bytes) that arrive in any
    order."""
    points, total, upto = [], 0, 0
    waiting: list[tuple[int, int, int]] = []
    for us, first, last, size in pieces:
        heapq.heappush(waiting, (first, last, size))
        while waiting and waiting[0][0] <= upto:
            start, stop, bytes_ = heapq.heappop(waiting)
            if stop > upto:
                total += bytes_ * (stop - upto) // (stop - start)
                upto = stop
        points.append((us, total))
    return Curve.of(points)


# ---------------------------------------------------------------------- TCP


def tcp(sender: Sequence[Packet], receiver: Sequence[Packet], *, reverse: bool) -> Wire:
    """Find the connection with most payload; the client's cookie at its start does not count."""
    carried = Counter[tuple[int, int]]()
    for packet in sender:
        if packet.protocol == TCP and packet.out:
            carried[packet.ports] += len(packet.body)
    ports = carried.most_common(1)[0][0]
    skip = 0 if reverse else COOKIE_BYTES
    left, base = _tcp_data(sender, ports, skip, out=True)
    came, _ = _tcp_data(receiver, ports, skip, out=False)
    again, sent_once, highest = [], [], 0
    for us, _, last in left:
        # A segment is a repeat if its last byte was sent before.
        again.append(last <= highest)
        highest = max(highest, last)
        sent_once.append((us, highest))
    return Wire(
        np.array([us for us, _, _ in left]),
        np.array(again, np.bool_),
        Curve.of(sent_once),
        _in_order((us, first, last, last - first) for us, first, last in came),
        _tcp_round_trips(sender, ports, base, left),
        np.array([us for us, _, _ in came]),
        100.0 * (len(left) - len(came)) / max(1, len(left)),
    )


def _tcp_data(
    packets: Sequence[Packet], ports: tuple[int, int], skip: int, *, out: bool
) -> tuple[list[tuple[float, int, int]], int]:
    """Give (time, first byte, last byte + 1) of every segment with payload, counted from the end of the
    skipped bytes, and the sequence number of byte 0."""
    found, base, reached = [], None, 0
    for packet in packets:
        if packet.protocol != TCP or packet.ports != ports or packet.out != out:
            continue
        sequence = int.from_bytes(packet.body[4:8], "big")
        # The SYN takes a sequence number, and the skipped bytes follow it.
        if packet.body[13] & SYN:
            base = (sequence + 1 + skip) & 0xFFFF_FFFF
            continue
        size = len(packet.body) - 4 * (packet.body[12] >> 4)
        if base is None or not size:
            continue
        offset = _offset(sequence, base, reached)
        if offset >= 0:
            found.append((packet.us, offset, offset + size))
            reached = max(reached, offset + size)
    return found, base or 0


def _tcp_round_trips(
    packets: Sequence[Packet], ports: tuple[int, int], base: int, left: Sequence[tuple[float, int, int]]
) -> Floats:
    """Sample round-trip times: from the oldest segment that an ACK is the first to cover if none of those was
    retransmitted, else from the oldest segment, sent once, that its SACK blocks cover first (RFC 6298, 3;
    Linux)."""
    firsts: dict[int, float] = {}
    repeated: set[int] = set()
    for us, _, last in left:
        # A segment is identified by its end; a repeated one gives no sample (Karn's rule).
        repeated.add(last) if last in firsts else firsts.setdefault(last, us)
    ends = sorted(firsts)
    covered, reached, rtt = set[int](), 0, []
    for packet in packets:
        if packet.protocol != TCP or packet.ports != ports[::-1] or packet.out or not packet.body[13] & ACK:
            continue
        upto = _offset(int.from_bytes(packet.body[8:12], "big"), base, reached)
        fresh = ends[bisect_right(ends, reached) : bisect_right(ends, upto)]
        reached = max(reached, upto)
        new = [end for end in fresh if end not in covered]
        sacked = []
        for first, last in _sack_blocks(packet.body):
            low, high = _offset(first, base, reached), _offset(last, base, reached)
            within = ends[bisect_right(ends, low) : bisect_right(ends, high)]
            sacked += [end for end in within if end not in covered and end > reached]
        covered.update(new, sacked)
        once = [end for end in sacked if end not in repeated]
        if new and not repeated.intersection(fresh):
            rtt.append((packet.us, packet.us - firsts[new[0]]))
        elif once:
            rtt.append((packet.us, packet.us - min(firsts[end] for end in once)))
    return _rows(rtt)


def _offset(sequence: int, base: int, near: int) -> int:
    """Unwrap a sequence number relative to `base`, to the value nearest to `near`."""
    return (sequence - base - near + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000 + near


def _sack_blocks(body: bytes) -> Iterator[tuple[int, int]]:
    """Parse the blocks of the SACK option (RFC 2018, 3): first and last + 1."""
    at, end = 20, 4 * (body[12] >> 4)
    while at + 1 < end and body[at]:
        size = 1 if body[at] == 1 else body[at + 1]
        if body[at] == 5:
            yield from struct.iter_unpack("!II", body[at + 2 : at + size])
        at += max(1, size)


# ---------------------------------------------------------------------- UDP


def udp(sender: Sequence[Packet], receiver: Sequence[Packet], block_bytes: int) -> Wire:
    """Account for datagrams of the block length: numbers, and jitter of transit times (RFC 1889, A.8)."""
    left = _udp_data(sender, block_bytes, out=True)
    came = _udp_data(receiver, block_bytes, out=False)
    departed = {number: us for us, number in left}
    last = max((number for _, number in came), default=0)
    jitter_us, varied, before = 0.0, [], None
    for us, number in came:
        transit = us - departed[number]
        if before is not None:
            jitter_us += (abs(transit - before) - jitter_us) / 16
        before = transit
        varied.append(jitter_us)
    numbers = {number for _, number in came}
    # Datagrams after the last arrival may be in flight, so they are not counted as lost.
    reached = sum(number <= last for _, number in left)
    return Wire(
        np.array([us for us, _ in left]),
        np.zeros(len(left), np.bool_),
        Curve.of((us, count * block_bytes) for count, (us, _) in enumerate(left, 1)),
        Curve.of((us, count * block_bytes) for count, (us, _) in enumerate(came, 1)),
        _udp_round_trips(sender, receiver),
        np.array([us for us, _ in came]),
        100.0 * (reached - len(numbers)) / max(1, reached),
        np.array(varied),
        at_sender={"datagrams_sent": Curve.of((us, count) for count, (us, _) in enumerate(left, 1))},
        at_receiver={"datagrams_received": Curve.of((us, count) for count, (us, _) in enumerate(came, 1))},
        smoothing=1.0,
    )


def _udp_round_trips(sender: Sequence[Packet], receiver: Sequence[Packet]) -> Floats:
    """Compute round-trip times from the echoes among the data, without the peer's time to answer."""
    times: dict[tuple[bytes, int], float] = {}
    for out_at_sender, kind in ((True, UDP_PROBE), (False, UDP_ECHO)):
        for packets, sign in ((receiver, 1), (sender, -1)):
            out = out_at_sender == (packets is sender)
            for packet in packets:
                if packet.protocol == UDP and packet.out == out and _is_echo(packet, kind):
                    times[packet.body[13:15], sign * kind] = packet.us
    found = []
    # Probe sent (-1) and received (1), echo sent (2) and received (-2).
    for number in {number for number, _ in times}:
        left, reached, answered, back = (times.get((number, kind)) for kind in (-1, 1, 2, -2))
        if left is not None and reached is not None and answered is not None and back is not None:
            found.append((back, back - left - (answered - reached)))
    return _rows(sorted(found))


def _is_echo(packet: Packet, kind: int) -> bool:
    return len(packet.body) == 8 + UDP_ECHO_BYTES and packet.body[12] == kind


def _udp_data(packets: Sequence[Packet], block_bytes: int, *, out: bool) -> list[tuple[float, int]]:
    """Give (time, number) of each datagram."""
    return [
        (packet.us, _UDP_DATA.unpack_from(packet.body, 8)[2])
        for packet in packets
        if packet.protocol == UDP and packet.out == out and len(packet.body) == 8 + block_bytes
    ]
