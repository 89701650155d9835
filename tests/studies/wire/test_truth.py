"""Tests of the comparison itself, and a small part of it on machines that allow namespaces."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tests.studies.wire import accounts
from tests.studies.wire.accounts import COOKIE_BYTES, Curve
from tests.studies.wire.capture import TCP, UDP, Packet
from tests.studies.wire.case import Case, Outcome, measure
from tests.studies.wire.judge import Line, judge
from tests.studies.wire.namespaces import PathSpec, why_not

MS = 1000.0
TIMED = (
    *("rtt", "path_loss", "jitter", "interval ends", "start", "bits_per_second", "_sent", "_received"),
    "segments received",
)
"""Columns that depend on the load of the machine or on the moment of the end: `make truth` judges them."""


def kcp_packet(us: float, *, out: bool, segments: list[tuple[int, int, int, int, int]]) -> Packet:
    """`segments`: (command, stamp, number, first unacknowledged, payload bytes)."""
    data = b"".join(
        struct.pack("<IBBHIIII", 7, command, 0, 128, stamp, number, una, size) + bytes(size)
        for command, stamp, number, una, size in segments
    )
    return Packet(us, out, UDP, (5201, 5201), bytes(8) + data)


def tcp_packet(us: float, *, out: bool, sequence: int, size: int, ack: int = 0, flags: int = 0x10) -> Packet:
    header = struct.pack("!HHIIBBHHH", 9, 5201, sequence & 0xFFFF_FFFF, ack, 5 << 4, flags, 0, 0, 0)
    ports = (9, 5201) if not ack else (5201, 9)
    return Packet(us, out, TCP, ports, header + bytes(size))


def test_kcp_transmissions_acks_and_delivery_are_read_from_packets() -> None:
    push, ack = 81, 82
    sender = [
        kcp_packet(0, out=True, segments=[(push, 1, 0, 0, 100), (push, 1, 1, 0, 100)]),
        kcp_packet(5 * MS, out=True, segments=[(push, 2, 0, 0, 100)]),
        kcp_packet(10 * MS, out=False, segments=[(ack, 1, 1, 0, 0)]),
        kcp_packet(15 * MS, out=False, segments=[(ack, 2, 0, 2, 0)]),
    ]
    receiver = [
        kcp_packet(4 * MS, out=False, segments=[(push, 1, 1, 0, 100)]),
        kcp_packet(9 * MS, out=False, segments=[(push, 2, 0, 0, 100)]),
    ]
    # Segment 0 is lost and retransmitted; the ACKs name both numbers.
    wire = accounts.kcp(sender, receiver)
    assert [wire.repeats_among(count) for count in (2, 3)] == [0, 1]
    assert list(wire.vouched.total) == [100, 200]
    assert (list(wire.delivered.us), list(wire.delivered.total)) == ([9 * MS], [200])
    assert wire.rtt.tolist() == [[10 * MS, 10 * MS], [15 * MS, 10 * MS]]
    assert wire.lost_percent == pytest.approx(100 / 3)


def test_acknowledgements_in_ranges_are_read_from_packets() -> None:
    """Segments 0 and 3 are missing. The newest one waited 2 ms at the receiver."""
    push = 81
    row = struct.pack("<IHHI", 1, 2, 1200, 1) + struct.pack("<IHHI", 1, 0x8001, 1000, 1)
    body = struct.pack("<IHH", 77, 1000, 9) + row + struct.pack("<HH", 4, 6)
    ranges = struct.pack("<IBBHIIII", 7, 86, 2, 128, 2, 5, 0, len(body)) + body
    sender = [
        kcp_packet(0, out=True, segments=[(push, 1, number, 0, 100) for number in range(4)]),
        kcp_packet(1 * MS, out=True, segments=[(push, 2, number, 0, 100) for number in (4, 5)]),
        Packet(13 * MS, False, UDP, (5201, 5201), bytes(8) + ranges),
    ]
    receiver = [
        *(kcp_packet(6 * MS, out=False, segments=[(push, 1, number, 0, 100)]) for number in (1, 2, 4, 5)),
        Packet(9 * MS, True, UDP, (5201, 5201), bytes(8) + ranges),
    ]
    wire = accounts.kcp(sender, receiver)
    assert list(wire.vouched.total) == [400]
    assert wire.rtt.tolist() == [[13 * MS, 10 * MS]]
    assert list(wire.at_receiver["acks_sent"].total) == [1]


def test_tcp_sequence_numbers_may_wrap_after_the_cookie() -> None:
    first = 0xFFFF_FFFF - COOKIE_BYTES - 1000  # so that the second segment crosses 2^32

    def segment(us: float, at: int, *, out: bool) -> Packet:
        return tcp_packet(us, out=out, sequence=first + 1 + COOKIE_BYTES + at, size=1000)

    syn = tcp_packet(0, out=True, sequence=first, size=0, flags=0x02)
    cookie = tcp_packet(1, out=True, sequence=first + 1, size=COOKIE_BYTES)
    upto = (first + 1 + COOKIE_BYTES + 2000) & 0xFFFF_FFFF
    answered = tcp_packet(0, out=False, sequence=0, size=0, ack=1, flags=0x02)  # acknowledges nothing
    sender = [
        *(
            answered,
            syn,
            cookie,
            segment(2, 0, out=True),
            segment(3, 1000, out=True),
            segment(9, 0, out=True),
        ),
        tcp_packet(12, out=False, sequence=1, size=0, ack=upto),
    ]
    receiver = [
        tcp_packet(1, out=False, sequence=first, size=0, flags=0x02),
        *(segment(5, 1000, out=False), segment(11, 0, out=False)),
    ]
    wire = accounts.tcp(sender, receiver, reverse=False)
    assert wire.again.tolist() == [False, False, True]
    assert list(wire.vouched.total) == [1000, 2000]
    assert (list(wire.delivered.us), list(wire.delivered.total)) == ([11], [2000])
    assert not len(wire.rtt)  # A retransmitted segment gives no sample.


def test_udp_loss_and_jitter_are_read_from_packets() -> None:
    def datagram(us: float, number: int, *, out: bool) -> Packet:
        return Packet(us, out, UDP, (9, 5201), bytes(8) + struct.pack("!III", 0, 0, number) + bytes(88))

    sender = [datagram(number * MS, number, out=True) for number in (1, 2, 3, 4)]
    receiver = [
        datagram(us, number, out=False) for us, number in ((11 * MS, 1), (13.6 * MS, 3), (14 * MS, 4))
    ]
    wire = accounts.udp(sender, receiver, 100)
    assert wire.lost_percent == 25.0
    assert wire.jitter_us is not None
    # Transit times 10, 10.6 and 10 ms.
    assert wire.jitter_us == pytest.approx([0, 600 / 16, 600 / 16 * 15 / 16 + 600 / 16])
    assert list(wire.delivered.total) == [100, 200, 300]


@pytest.mark.parametrize(("reverse", "until_us"), [(False, 30.0), (True, 50.0)])
def test_a_receiver_counts_until_results_are_requested(reverse: bool, until_us: float) -> None:
    """The end is EXCHANGE_RESULTS: sent by a receiving server, or answered by a receiving client."""

    def control_packet(us: float, payload: bytes, *, sent_here: bool) -> Packet:
        made = tcp_packet(us, out=sent_here, sequence=1, size=0)
        return replace(made, body=made.body + payload)

    packets = [
        *(control_packet(10, b"\x01", sent_here=not reverse), control_packet(20, b"\x04", sent_here=reverse)),
        *(control_packet(30, b"\x0d", sent_here=not reverse), control_packet(40, b"", sent_here=reverse)),
        control_packet(50, b"\x00\x00", sent_here=reverse),
    ]
    assert accounts.counted_until_us(packets, reverse=reverse) == until_us
    assert accounts.counted_until_us(packets[:2], reverse=reverse) is None


def test_a_curve_gives_the_interval_of_a_total() -> None:
    curve = Curve(np.array([10.0, 20.0, 30.0]), np.array([100.0, 200.0, 300.0]))
    assert curve.when(200).tolist() == [20, 30]
    assert curve.when(250).tolist() == [20, 30]
    assert curve.when(300).tolist() == [30, np.inf]
    assert [curve.at(us) for us in (9, 10, 29)] == [0, 100, 200]


def test_a_wrong_or_missing_figure_does_not_hold() -> None:
    assert Line("", "", 100, 100.5, 0.5).holds
    assert not Line("", "", 100, 100.6, 0.5).holds
    assert not Line("", "", 100, None, 0.5).holds
    assert not Line("", "", 100, float("nan"), 0.5).holds


IN_FLIGHT = [
    Case(name, PathSpec("20 ms each way", delay_ms=20), reverse=True, flags=("-b", "4M"), seconds=1)
    for name in ("kcp", "kcp-bbr")
]
LOSSY = [
    Case("kcp-bbr", PathSpec("loss 2 %", loss_percent=2, delay_ms=5), flags=("-n", "1M")),
    Case("kcp", PathSpec("loss 2 %", loss_percent=2), reverse=True, flags=("-n", "1M", "-b", "8M")),
    Case("tcp", PathSpec("loss 2 %", loss_percent=2), flags=("-n", "1M")),
    Case("udp", PathSpec("loss 2 %", loss_percent=2), reverse=True, flags=("-b", "8M"), seconds=1),
]


@pytest.fixture(scope="module")
def measured() -> Iterator[Mapping[Case, Future[Outcome]]]:
    """Run in real namespaces, if this machine allows them. Two cases at once: they wait most of the time."""
    if reason := why_not():
        pytest.skip(reason)
    with ThreadPoolExecutor(2) as pool:
        yield {case: pool.submit(measure, case) for case in (*IN_FLIGHT, *LOSSY)}


@pytest.mark.alone  # figures of the peer that arrive late are missing in a row
@pytest.mark.live
@pytest.mark.parametrize("case", IN_FLIGHT, ids=lambda case: case.name)
def test_segments_in_flight_at_the_end_are_not_counted_as_lost(
    measured: Mapping[Case, Future[Outcome]], case: Case
) -> None:
    """The client stops a round trip after the server sent the last packet: 4 % of this second."""
    outcome = measured[case].result()
    assert outcome.wire.lost_percent == 0
    for run in outcome.runs:
        assert run.total("path_loss_percent") < 2  # late by up to 8 ms
        assert run.column("datagrams_received").sum() == run.total("datagrams_received")


@pytest.mark.alone
@pytest.mark.live
@pytest.mark.parametrize("case", LOSSY, ids=lambda case: case.name)
def test_the_report_agrees_with_the_captured_packets(
    measured: Mapping[Case, Future[Outcome]], case: Case
) -> None:
    lines = [
        line for line in judge(measured[case].result()) if not any(word in line.column for word in TIMED)
    ]
    if "-n" not in case.flags:  # Then the number of bytes depends on the moment of the end, too.
        lines = [line for line in lines if line.column not in ("sender bytes", "receiver bytes")]
    assert "receiver bytes, sum of intervals" in {line.column for line in lines}
    assert [line for line in lines if not line.holds] == []
