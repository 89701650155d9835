"""Reading of datagrams: batches, single datagrams, every length, and arbitrary bytes."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import iperfpy.protocols.udp.reader as inbox_module
from iperfpy.protocols.datagrams.arrival_time import TIMESPEC
from iperfpy.protocols.datagrams.datagram_socket import offload_of
from iperfpy.protocols.operating_system import SO_TIMESTAMPNS, SOL_UDP, UDP_GRO, UDP_SEGMENT
from iperfpy.protocols.path_events import PathEvents
from iperfpy.protocols.udp.packets import NARROW_BYTES, Outgoing
from iperfpy.protocols.udp.reader import DatagramReader, ShortDatagram
from iperfpy.protocols.udp.reception import Reception, Tally

pytestmark = pytest.mark.live

PATIENCE = struct.pack("ll", 0, 200_000)  # a timeval


@dataclass
class Pair:
    """A sending socket, and a reader that has read nothing yet."""

    sender: socket.socket
    receiver: socket.socket
    reception: Reception
    inbox: DatagramReader

    def settle(self, datagrams: int) -> list[ShortDatagram]:
        """Read until this number of datagrams has been counted or returned; return the latter."""
        returned: list[ShortDatagram] = []
        deadline = time.monotonic() + 5
        while self.reception.tally.datagrams + len(returned) < datagrams and time.monotonic() < deadline:
            if (short_datagram := self.inbox.take()) is not None:
                returned.append(short_datagram)
        return returned


@pytest.fixture(scope="module", autouse=True)
def arrivals_are_stamped() -> Iterator[None]:
    """Hold a socket that makes the kernel stamp arrivals. It begins some time after the first socket asked;
    before, it stamps a datagram when it is read."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        inbox = DatagramReader(sock, Reception(wide=False), PathEvents(), wide=False)
        while True:
            sock.sendto(b"", sock.getsockname())
            time.sleep(0.002)
            datagram = inbox.take()
            if datagram is not None and datagram.age_us >= 2_000:
                break
        yield


@pytest.fixture(params=["coalescing", "plain"])
def coalesces(request: pytest.FixtureRequest) -> bool:
    if request.param == "coalescing" and offload_of(socket.AF_INET) != (True, True):
        pytest.skip("this kernel has no UDP GSO and GRO")
    return bool(request.param == "coalescing")


@pytest.fixture(params=[False, True], ids=["32 bits", "64 bits"])
def wide(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def pair(coalesces: bool, wide: bool) -> Iterator[Pair]:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sender,
        socket.socket(type=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
        if coalesces:
            receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        sender.connect(receiver.getsockname())
        reception = Reception(wide=wide)
        yield Pair(sender, receiver, reception, DatagramReader(receiver, reception, PathEvents(), wide=wide))


def send(pair: Pair, outgoing: Outgoing, count: int, *, segment: bool, skip: int = 0) -> None:
    """`count` datagrams, the first `skip` of them lost on the way."""
    pair.sender.setsockopt(SOL_UDP, UDP_SEGMENT, outgoing.block_bytes if segment else 0)
    view = outgoing.stamp(count, time.monotonic_ns() // 1000)
    taken = len(view) // outgoing.block_bytes
    kept = view[skip * outgoing.block_bytes :]
    if segment and len(kept):
        pair.sender.send(kept)
    elif len(kept):
        for start in range(0, len(kept), outgoing.block_bytes):
            pair.sender.send(kept[start : start + outgoing.block_bytes])
    outgoing.advance(taken)


@pytest.mark.parametrize("block_bytes", [16, 100, 1400, 8000])
def test_runs_and_single_datagrams_are_counted_alike(
    pair: Pair, coalesces: bool, wide: bool, block_bytes: int
) -> None:
    outgoing = Outgoing(block_bytes, wide=wide)
    rng = random.Random(block_bytes)
    lost = received = 0
    for turn in range(60):
        count = min(rng.choice((1, 1, 2, 7, 40)), outgoing.batch_size)
        before = outgoing.sent
        skip = rng.choice((0, 0, 0, 1)) if turn else 0
        send(pair, outgoing, count, segment=coalesces, skip=skip)
        taken = outgoing.sent - before
        lost += min(skip, taken)
        received += max(0, taken - skip)
        if turn % 5 == 4:
            assert pair.settle(received) == []
    send(pair, outgoing, 1, segment=False)
    assert pair.settle(received + 1) == []
    tally = pair.reception.tally
    assert tally.datagrams == received + 1
    assert tally.bytes == (received + 1) * block_bytes
    assert (tally.highest, tally.lost) == (outgoing.sent, lost)
    assert (tally.late, tally.duplicates) == (0, 0)


def test_every_way_of_reading_gives_the_same_jitter(pair: Pair, coalesces: bool, wide: bool) -> None:
    """A complete batch is counted at once, a batch with a gap datagram by datagram; the jitter is equal."""
    outgoing = Outgoing(500, wide=wide)
    for _ in range(20):
        send(pair, outgoing, 20, segment=coalesces)
    pair.settle(400)
    jitter_us = pair.reception.tally.jitter_us
    assert jitter_us is not None
    assert 0 <= jitter_us < 1e6


def test_arrival_times_are_the_kernels_and_not_the_readers(pair: Pair, wide: bool) -> None:
    """Datagrams that wait in the socket keep their time of arrival."""
    outgoing = Outgoing(200, wide=wide)
    for _ in range(20):
        send(pair, outgoing, 1, segment=False)
    pair.settle(20)
    calm_us = pair.reception.tally.jitter_us
    send(pair, outgoing, 1, segment=False)
    time.sleep(0.3)  # a delay of the reader, which would add a sixteenth of it to the jitter
    pair.settle(21)
    assert calm_us is not None
    assert (pair.reception.tally.jitter_us or 0) - calm_us < 300_000 / 32


@pytest.mark.parametrize("size", [0, 1, 4, 11])
def test_a_short_datagram_is_returned_and_not_counted(pair: Pair, size: int) -> None:
    pair.sender.send(bytes(range(size)))
    time.sleep(0.02)
    short_datagram = pair.inbox.take()
    assert short_datagram is not None
    assert short_datagram.data == bytes(range(size))
    assert 0.015e6 < short_datagram.age_us < 30e6
    assert pair.reception.tally == Tally()


def test_a_short_datagram_at_the_end_of_a_gro_batch_is_returned(
    pair: Pair, coalesces: bool, wide: bool
) -> None:
    """The kernel puts a shorter datagram behind a batch: data if it has a header, else a short datagram."""
    if not coalesces:
        pytest.skip("only where the kernel makes runs")
    outgoing = Outgoing(300, wide=wide)
    pair.sender.setsockopt(SOL_UDP, UDP_SEGMENT, 300)
    returned = []
    for runs in (1, 3):
        pair.sender.send(bytes(outgoing.stamp(runs, 5)) + b"hello there")
        outgoing.advance(runs)
        returned.append(pair.inbox.take())
    assert [short_datagram.data for short_datagram in returned if short_datagram] == [b"hello there"] * 2
    assert pair.reception.tally.datagrams == 4
    assert pair.reception.tally.bytes == 1200


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_datagram_is_counted_or_returned(pair: Pair, garbage: list[bytes]) -> None:
    """No datagram of the peer raises; one with a whole header is counted, the rest is returned."""
    reception = Reception()
    inbox = DatagramReader(pair.receiver, reception, PathEvents(), wide=False)
    pair.sender.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    for datagram in garbage:
        pair.sender.send(datagram)
    # Datagrams of every length arrive; the reader separates them by the length of the header.
    counted = [datagram for datagram in garbage if len(datagram) >= NARROW_BYTES]
    short = [datagram for datagram in garbage if len(datagram) < NARROW_BYTES]
    returned = [one.data for one in Pair(pair.sender, pair.receiver, reception, inbox).settle(len(garbage))]
    pair.receiver.setblocking(False)
    assert inbox.take() is None
    pair.receiver.setblocking(True)
    pair.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
    tally = reception.tally
    assert tally.datagrams == len(counted)
    assert tally.bytes == sum(map(len, counted))
    assert returned == short
    assert 0 <= tally.lost <= tally.highest


def test_the_cache_of_lengths_is_limited(pair: Pair) -> None:
    """The views of a length are cached, for a limited number of lengths."""
    count = 0
    for size in range(20, 1020):
        pair.sender.send(os.urandom(size))
        if size % 50 == 0:
            count += len(pair.settle(size - 19))
    pair.settle(1000)
    assert count == 0
    assert pair.reception.tally.datagrams == 1000


class Scripted(socket.socket):
    """A socket that returns datagrams of iperf3 with stamps of the kernel, in virtual time."""

    def __init__(self, numbers: list[int], sent_us: list[int], stamps_us: list[float]) -> None:
        super().__init__(type=socket.SOCK_DGRAM)
        self._script = list(zip(numbers, sent_us, stamps_us, strict=True))[::-1]

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        if flags or not self._script:  # one datagram per wake-up
            raise BlockingIOError
        number, sent_us, stamp_us = self._script.pop()
        data = struct.pack(">III", *divmod(sent_us, 1_000_000), number) + bytes(88)
        buffers[0][: len(data)] = data
        stamp = TIMESPEC.pack(int(stamp_us // 1_000_000), int(stamp_us % 1_000_000 * 1000))
        return len(data), [(socket.SOL_SOCKET, SO_TIMESTAMPNS, stamp)], 0, None


WALL_US = 1_700_000_000_000_000.0


@pytest.mark.parametrize("jitter_us", [40, 1_000, 15_000])
def test_the_jitter_of_a_known_pattern_follows_the_kernels_stamps(
    monkeypatch: pytest.MonkeyPatch, jitter_us: int
) -> None:
    """Every second datagram is late by `jitter_us`; the pace of the reader has no effect."""
    monkeypatch.setattr(inbox_module, "wall_minus_monotonic_us", lambda: WALL_US)
    sent_us = [5_000_000 + 1_000 * turn for turn in range(1000)]
    stamps_us = [WALL_US + at + 7_000 + (jitter_us if turn % 2 else 0) for turn, at in enumerate(sent_us)]
    with Scripted(list(range(1, 1001)), sent_us, stamps_us) as sock:
        reception = Reception()
        inbox = DatagramReader(sock, reception, PathEvents(), wide=False)
        for _ in range(1000):
            inbox.take()
    assert reception.tally.jitter_us == pytest.approx(jitter_us, rel=0.01)
    assert (reception.tally.lost, reception.tally.late) == (0, 0)


@pytest.mark.parametrize("step_us", [-3_600e6, 250_000.0, 86_400e6])
def test_setting_the_wall_clock_causes_no_jitter(monkeypatch: pytest.MonkeyPatch, step_us: float) -> None:
    """The step is noticed some datagrams later, and the jitter that it caused is removed."""
    offset = [WALL_US]
    monkeypatch.setattr(inbox_module, "wall_minus_monotonic_us", lambda: offset[0])
    sent_us = [5_000_000 + 1_000 * turn for turn in range(1000)]
    stamps_us = [
        WALL_US + at + 7_000 + (step_us if turn >= 500 else 0) + (100 if turn % 2 else 0)
        for turn, at in enumerate(sent_us)
    ]
    # Besides the step, every second datagram is 100 us late.
    with Scripted(list(range(1, 1001)), sent_us, stamps_us) as sock:
        reception = Reception()
        inbox = DatagramReader(sock, reception, PathEvents(), wide=False)
        for turn in range(1000):
            offset[0] = WALL_US + (step_us if turn >= 500 else 0)
            inbox.take()
    assert reception.tally.jitter_us == pytest.approx(100, rel=0.01)
