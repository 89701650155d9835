"""From the record of a test to the measurements of a diagnosis: packets, rates, evidence. Pure functions.

A diagnosis counts IP packets, because a path does; a test counts payload. `Packets` converts between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from iperfpy.diagnosis.evidence import IdlePath, RunEvidence, Rung
from iperfpy.plan import Direction
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Meaning, Side, Value, number, with_meaning
from iperfpy.protocols.path_evidence import EvidenceLimit, PathEvidence
from iperfpy.records import EndFacts, Row, RunStarted
from iperfpy.store.stored_run import Interval, Run

UDP_HEADER_BYTES = 8
IPV4_BYTES, IPV6_BYTES = 20, 40
TCP_HEADER_BYTES = 32
"""With the timestamps that every system sends."""
USUAL_MSS = 1448

LEAST_DATA_S = 0.1
"""A test of less data than this has no rate: a burst into buffers says nothing about the path."""
SETTLED_FROM = 0.4
"""Part of a test after which its rate counts: before it, the sender searched for the rate."""


@dataclass(frozen=True, slots=True)
class Packets:
    """Sizes of the packets of one test.

    Parameters
    ----------
    ip_bytes : IP header
    payload_bytes, packet_bytes : payload of a full packet, and the whole IP packet
    """

    ip_bytes: int
    payload_bytes: int
    packet_bytes: int

    @classmethod
    def of(cls, started: RunStarted, sender: Mapping[str, Value]) -> Packets:
        """The sizes of a test, by its connections and the sender's figures."""
        first = started.connected[0] if started.connected else None
        ip_bytes = IPV6_BYTES if first is not None and ":" in str(plain(first.remote)[0]) else IPV4_BYTES
        if started.transport.datagrams:
            block = started.plan.block_bytes
            return cls(ip_bytes, block, block + UDP_HEADER_BYTES + ip_bytes)
        transport = started.transport
        datagram = _figure(transport, Meaning.FULL_DATAGRAM, sender)
        if datagram is not None:
            packet = int(datagram) + UDP_HEADER_BYTES + ip_bytes
            # Version 0.1 does not report the payload; it has headers alone around it.
            payload = _figure(transport, Meaning.FULL_PAYLOAD, sender) or datagram - transport.header_bytes
            return cls(ip_bytes, int(payload), packet)
        mss = (first.mss_bytes if first is not None else None) or started.tcp_mss or USUAL_MSS
        return cls(ip_bytes, mss, mss + TCP_HEADER_BYTES + ip_bytes)

    @property
    def ratio(self) -> float:
        """Bytes of IP packets for each byte of payload."""
        return self.packet_bytes / self.payload_bytes

    def sent_bytes(self, row: Row) -> int:
        """Bytes of the IP packets that the sender of the row has sent, retransmissions included.

        By the receiver's count of payload where the sender's figures are not known.
        """
        sender = row.of(Side.SENDER)
        if sender is None:
            return round(row.local.bytes * self.ratio)
        values = sender.values
        datagrams = number(values.get("datagrams_sent"))
        if datagrams is not None:
            wire = number(values.get("wire_bytes_sent"))
            payload = datagrams * self.payload_bytes if wire is None else wire
            return round(payload + datagrams * (UDP_HEADER_BYTES + self.ip_bytes))
        return round((sender.bytes + (number(values.get("retransmitted_bytes")) or 0)) * self.ratio)


def _figure(transport: Transport, meaning: Meaning, values: Mapping[str, Value]) -> float | None:
    """The first known figure with this meaning; None: the transport has none, or its value is not known."""
    found = (number(values.get(metric.key)) for metric in with_meaning(transport.metrics, meaning))
    return next((value for value in found if value is not None), None)


def sent_bytes(started: RunStarted | None, rows: Sequence[Row]) -> int:
    """Bytes of the IP packets of the rows of a test; 0 if it has not started."""
    if started is None:
        return 0
    sent = 0
    for row in rows:
        sender = row.of(Side.SENDER)
        sent += Packets.of(started, sender.values if sender is not None else {}).sent_bytes(row)
    return sent


def sender_values(run: Run, direction: Direction) -> Mapping[str, Value]:
    """The sender's figures of the whole test, empty if they are not known."""
    row = _sum_of(run.sums, direction)
    sample = row.of(Side.SENDER) if row is not None else None
    return sample.values if sample is not None else {}


def receiver_values(run: Run, direction: Direction) -> Mapping[str, Value]:
    """The receiver's figures of the whole test, empty if they are not known."""
    row = _sum_of(run.sums, direction)
    sample = row.of(Side.RECEIVER) if row is not None else None
    return sample.values if sample is not None else {}


def packets_of(run: Run, direction: Direction) -> Packets | None:
    """The sizes of the packets of a test; None if it did not start."""
    if run.started is None:
        return None
    return Packets.of(run.started, sender_values(run, direction))


def datagram_bytes(run: Run, direction: Direction) -> float | None:
    """UDP payload of a full datagram; None: not known, or the transport has no such size."""
    if run.started is None:
        return None
    return _figure(run.started.transport, Meaning.FULL_DATAGRAM, sender_values(run, direction))


def settled_bps(run: Run, direction: Direction) -> float | None:
    """Rate of IP packets that arrived in the later part of a test; None if nothing was measured."""
    packets = packets_of(run, direction)
    if packets is None or not run.intervals:
        return None
    payload_bps = steady_bps(run, direction, SETTLED_FROM * run.intervals[-1].end)
    return None if payload_bps is None else packets.ratio * payload_bps


def steady_bps(run: Run, direction: Direction, from_s: float) -> float | None:
    """Payload rate at which data arrived from a moment of a test on; of the whole test if no interval began
    so late. None if nothing was measured, or not for long enough."""
    if not run.intervals or run.intervals[-1].end < LEAST_DATA_S:
        return None
    kept = [one for one in run.intervals if one.start >= from_s] or list(run.intervals)
    arrived = [sample for one in kept if (sample := arrived_in(run, one, direction)) is not None]
    seconds = sum(sample[1] for sample in arrived)
    return 8 * sum(sample[0] for sample in arrived) / seconds if seconds > 0 else None


def arrived_in(run: Run, interval: Interval, direction: Direction) -> tuple[float, float] | None:
    """(payload bytes, seconds) of the receiver, or of this end if its count is not known.

    A stream delivers nothing behind a lost segment, and then all that waited for it: a second may seem to
    carry more than the path does. A receiver that counts segments as they arrive, each once, knows better.
    """
    row = _sum_of(interval.sums, direction)
    if row is None:
        return None
    sample = row.of(Side.RECEIVER) or row.local
    segments, copies = (number(sample.values.get(key)) for key in ("segments_received", "duplicates"))
    # A test that has not ended, or failed, has the size of its segments in its intervals alone.
    sender = row.of(Side.SENDER)
    figures = (sender.values if sender is not None else {}, sender_values(run, direction))
    # Without a count of the copies, the segments may not be counted once each.
    if segments is None or copies is None or run.started is None:
        return sample.bytes, sample.seconds
    transport = run.started.transport
    sizes = next((one for one in figures if _figure(transport, Meaning.FULL_DATAGRAM, one) is not None), None)
    if sizes is None:
        return sample.bytes, sample.seconds
    return segments * Packets.of(run.started, sizes).payload_bytes, sample.seconds


def measured_s(run: Run) -> float:
    """Seconds of data of a test."""
    return max((row.local.seconds for row in run.rows), default=0.0)


def capacity_bps(runs: Sequence[tuple[Run, Direction]]) -> float | None:
    """Rate of IP packets that a direction carries, as its first round shows it.

    The best settled rate of any test; the model of KCP's controller may add a quarter to it, because a short
    test seldom fills a long path.
    """
    rates = [rate for run, direction in runs if (rate := settled_bps(run, direction))]
    if not rates:
        return None
    best = max(rates)
    # The controller's model counts UDP payload: the headers below it come on top.
    models = []
    for run, direction in runs:
        packets = packets_of(run, direction)
        model = number(sender_values(run, direction).get("bandwidth_bits_per_second"))
        if packets is not None and model is not None:
            payload = packets.packet_bytes - packets.ip_bytes - UDP_HEADER_BYTES
            models.append(model * packets.packet_bytes / payload)
    return max(best, min(max(models, default=0.0), 1.25 * best))


# -- the records of a diagnosis


def rung_of(run: Run, direction: Direction) -> Rung | None:
    """The rung that a test of UDP was; None if nothing was measured."""
    packets, row = packets_of(run, direction), _sum_of(run.sums, direction)
    if packets is None or row is None or run.started is None:
        return None
    delivery = run.started.transport.delivery
    assert delivery is not None, "a transport that may lose data declares its counters"
    sender, receiver = sender_values(run, direction), receiver_values(run, direction)
    received = int(number(receiver.get(delivery.received)) or 0)
    repeated = int(number(receiver.get(delivery.repeated)) or 0)
    known = int(number(receiver.get(delivery.known)) or 0)
    missing = int(number(receiver.get(delivery.missing)) or 0)
    sent = int(number(sender.get(delivery.sent)) or known)
    # A stock receiver does not count arrivals: it counts those that are missing.
    arrived = received - repeated if received else max(0, (known or sent) - missing)
    seconds = (row.of(Side.SENDER) or row.local).seconds
    evidence = next((one for one in run.evidence if one.direction is direction), None)
    # One stream, so one record of the path; a stock receiver sends none.
    path = evidence.path[0] if evidence is not None and evidence.path else PathEvidence()
    late = number(receiver.get("late_datagrams"))
    return Rung(
        offered_bits_per_s=8 * packets.packet_bytes * sent / seconds if seconds > 0 else 0.0,
        packet_bytes=packets.packet_bytes,
        seconds=seconds,
        sent=sent,
        arrived=min(arrived, sent),
        rtt_us=path.rtt_us or round_trips(run, direction),
        flight=path.flight,
        late=int(late if late is not None else path.displaced_packets or 0),
        duplicates=repeated,
        kernel_drops=evidence.kernel_drops if evidence is not None else None,
        loss_runs=path.loss_runs,
        lost_in_runs=path.lost_in_runs,
    )


def round_trips(run: Run, direction: Direction, from_s: float = 0.0) -> Mapping[str, float]:
    """Percentiles p5, p50, p95 and max of the sender's round-trip times from a moment of a test on; empty if
    it measured none."""
    if "rtt_us" not in run.figures:
        return {}
    values = sorted(
        value
        for one in run.intervals
        if one.start >= from_s and (value := one.figure("rtt_us", direction)) > 0  # NaN is not above 0
    )
    return percentiles(values) if values else {}


def percentiles(values: Sequence[float]) -> Mapping[str, float]:
    """p5, p50, p95 and max of ascending values, by linear interpolation between the nearest two."""
    last = len(values) - 1

    def at(share: float) -> float:
        below = int(share * last)
        above = min(below + 1, last)
        return values[below] + (values[above] - values[below]) * (share * last - below)

    return {"p5": at(0.05), "p50": at(0.5), "p95": at(0.95), "max": values[-1]}


def evidence_of(run: Run, direction: Direction) -> RunEvidence | None:
    """The evidence of one direction of a test; None if nothing was measured, or not long enough.

    Its rate is the settled one, if the transport adapts its rate: tests are short, and their start would
    lower the rate on long paths.
    """
    found = next((one for one in run.evidence if one.direction is direction), None)
    if found is None or found.seconds < LEAST_DATA_S:
        return None
    # A diagnosis sends all that goes: its sender has nothing to send only at the start, and at an amount.
    found = replace(found, path=tuple(_without_waits(path) for path in found.path))
    settled, packets = settled_bps(run, direction), packets_of(run, direction)
    if not found.reliable or settled is None or packets is None:
        return found
    return replace(found, bits_per_second=settled / packets.ratio)


def _without_waits(path: PathEvidence) -> PathEvidence:
    """The record without the time in which there was nothing to send."""
    limits = {key: us for key, us in path.limited_us.items() if key != EvidenceLimit.APPLICATION}
    return replace(path, limited_us=limits)


def nothing_arrived(transport: Transport, direction: Direction) -> RunEvidence:
    """The evidence of a test without data that got through, although that of another transport does."""
    return RunEvidence(
        transport=transport.name,
        reliable=transport.reliable,
        controlled=transport.reliable,
        streams=1,
        seconds=0.0,
        bits_per_second=0.0,
        direction=direction,
        receiver={"bytes": 0, "loss_percent": 100.0},
        over_udp=transport.over_udp,
    )


def server_facts(run: Run | None) -> EndFacts:
    """Program and system of the server, as far as it told them in this test."""
    told = run.ended.server if run is not None and run.ended is not None else EndFacts()
    return EndFacts(told.version, told.system_info)


def idle_path(run: Run | None, others: Sequence[Run]) -> IdlePath:
    """The path before any load.

    Parameters
    ----------
    run : the test of the idle path, None if there is none
    others : further tests; each measured a round trip before its data, and the size of packets that passes
    """
    path = next((path for one in run.evidence for path in one.path), None) if run is not None else None
    path = path or PathEvidence()
    echoes = path.rtt_us or (round_trips(run, Direction.FORWARD) if run is not None else {})
    count = path.extra.get("echoes", 0)
    before = sorted(
        rtt
        for one in (run, *others)
        if one is not None and (rtt := one.latency.idle_rtt_us) is not None and rtt > 0
    )
    rtt_us = echoes or (percentiles(before) if before else {})
    sizes = [found for one in others for row in one.sums if (found := _sizes(one, row)) is not None]
    mtu_bytes = min(_longest_passing(sizes), default=None)
    hint_bytes = max((one.announced for one in sizes), default=None)
    return IdlePath(rtt_us, mtu_bytes, hint_bytes, count, path.lump_us)


class _Sizes(NamedTuple):
    """Packets of one direction of a test, in bytes: the longest one that was announced, and the longest one
    that passed. `searched`: the sender tried sizes itself, and one of the latter size was acknowledged."""

    direction: Direction
    announced: int
    passed: int
    searched: bool


def _longest_passing(sizes: Sequence[_Sizes]) -> Iterator[int]:
    """The longest packet that passes in each direction, as far as one was found that does not.

    A burst of losses may take all probes of a size in one test, and the path carries what another one has
    carried.
    """
    for direction in {one.direction for one in sizes}:
        searched = [one for one in sizes if one.searched and one.direction is direction]
        # Where the network named the size, in one of several tests, nothing vanishes without a word.
        longest = max(searched, key=lambda one: (one.passed, -one.announced), default=None)
        if longest is not None and longest.passed < longest.announced:
            yield longest.passed
    # The kernel's size is an announcement, which no test has tried.
    yield from (one.passed for one in sizes if not one.searched)


def _sizes(run: Run, row: Row) -> _Sizes | None:
    sender = row.of(Side.SENDER)
    if run.started is None or sender is None or not sender.bytes:
        return None
    transport, packets = run.started.transport, Packets.of(run.started, sender.values)
    tried = _figure(transport, Meaning.LONGEST_TRIED, sender.values)
    passed = _figure(transport, Meaning.LONGEST_PASSED, sender.values)
    if tried is not None and passed is not None:
        headers = UDP_HEADER_BYTES + packets.ip_bytes
        return _Sizes(row.direction, int(tried) + headers, int(passed) + headers, searched=True)
    pmtu = number(sender.values.get("pmtu_bytes"))
    return _Sizes(row.direction, int(pmtu), int(pmtu), searched=False) if pmtu else None


def _sum_of(rows: Sequence[Row], direction: Direction) -> Row | None:
    return next((row for row in rows if row.direction is direction), None)
