"""Errors of `send` in the middle of a UDP stream: counted, and the datagrams sent again or left out."""

from __future__ import annotations

import errno
import os

import pytest

from iperfpy.protocols.path_events import PathEvents, Sign
from iperfpy.protocols.udp import UdpSettings, sender
from iperfpy.protocols.udp.echo import ECHO_BYTES
from iperfpy.protocols.udp.sender import DEVICE_FULL_US, UNREACHABLE_US, VISIT_BYTES, DatagramSender

BLOCK_BYTES, BLOCKS = 100, 200


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit ends for other reasons than the time: a busy machine takes longer."""
    monkeypatch.setattr(sender, "VISIT_US", 3_600_000_000)


class BrokenSocket:
    """A socket: its `send` fails with the given errors first, and then for batches if it refuses them."""

    def __init__(self, *codes: int, refuses_batches: bool = False) -> None:
        self.codes = list(codes)
        self.sent: list[int] = []
        self.segment_bytes = 0
        self._refuses_batches = refuses_batches

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.segment_bytes = value

    def send(self, view: memoryview, flags: int = 0) -> int:
        code = self.codes.pop(0) if self.codes else 0
        if not code and self._refuses_batches and len(view) > BLOCK_BYTES:
            code = errno.EINVAL
        if code:
            raise OSError(code, os.strerror(code))
        assert len(view) <= max(BLOCK_BYTES, self.segment_bytes * 64)  # never a batch as one datagram
        self.sent.append(len(view))
        return len(view)


class Blocks:
    """A load of `BLOCKS` blocks without a pace."""

    may_block = False

    def __init__(self) -> None:
        self.left = BLOCKS

    def wait_us(self, now_us: int) -> int:
        return 0 if self.left else -1

    def take(self) -> memoryview:
        self.left -= 1
        return memoryview(bytes(BLOCK_BYTES))


def send_over(sock: BrokenSocket, conv: int = 0) -> tuple[DatagramSender, PathEvents, list[int]]:
    """Send all blocks. Returns the sender, its events, and the pauses for which the visits asked."""
    events, pauses = PathEvents(), list[int]()
    made = DatagramSender(sock, BLOCK_BYTES, UdpSettings(), events, conv=conv, gso=True)  # type: ignore[arg-type]
    made.begin(Blocks())
    while (pause_us := made.send_share()) >= 0:
        pauses.append(pause_us)
    return made, events, pauses


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EINVAL])
def test_datagrams_count_once_they_have_left(code: int) -> None:
    """A path that is gone for a while takes nothing from the amount, and GSO stays on."""
    sock = BrokenSocket(*[code] * 30)
    made, events, pauses = send_over(sock)
    assert made.datagrams == BLOCKS
    assert sum(sock.sent) == BLOCKS * BLOCK_BYTES
    assert set(pauses) == {UNREACHABLE_US}
    assert set(events.counts) <= {Sign.UNREACHABLE, Sign.OTHER}
    assert sock.segment_bytes == BLOCK_BYTES


def test_an_error_about_an_earlier_datagram_loses_nothing() -> None:
    sock = BrokenSocket(errno.ECONNREFUSED)
    made, events, _ = send_over(sock)
    assert made.datagrams == BLOCKS
    assert sum(sock.sent) == BLOCKS * BLOCK_BYTES
    assert events.counts == {Sign.REFUSED: 1}


def test_a_refused_batch_switches_offload_off() -> None:
    sock = BrokenSocket(refuses_batches=True)
    made, events, _ = send_over(sock)
    assert sock.sent == [BLOCK_BYTES] * BLOCKS
    assert made.datagrams == BLOCKS
    assert not events.counts
    assert sock.segment_bytes == 0


@pytest.mark.parametrize("code", [errno.EBADF, errno.EMSGSIZE])
def test_an_error_that_no_repetition_cures_is_raised(code: int) -> None:
    with pytest.raises(OSError, match=os.strerror(code)):
        send_over(BrokenSocket(*[code] * 3))


@pytest.mark.parametrize(
    ("code", "pause_us"), [(errno.EAGAIN, 0), (errno.ENOBUFS, DEVICE_FULL_US), (errno.ENOMEM, DEVICE_FULL_US)]
)
def test_a_sender_without_room_waits_and_loses_nothing(code: int, pause_us: int) -> None:
    """The socket reports when it has room, but not when the device's queue has."""
    sock = BrokenSocket(*[code] * 3)
    made, events, pauses = send_over(sock)
    assert made.datagrams == BLOCKS
    assert sum(sock.sent) == BLOCKS * BLOCK_BYTES
    assert pauses == [pause_us] * 3
    assert not events.counts


def test_a_probe_without_room_comes_first_when_there_is_some() -> None:
    sock = BrokenSocket(errno.EAGAIN)
    _, _, pauses = send_over(sock, conv=7)
    assert pauses == [0]
    assert sock.sent[0] == ECHO_BYTES
    assert sock.sent.count(ECHO_BYTES) == 1


class Rest:
    """A load of less than a block."""

    may_block = False

    def __init__(self) -> None:
        self.left = BLOCK_BYTES // 2

    def wait_us(self, now_us: int) -> int:
        return 0 if self.left else -1

    def take(self) -> memoryview:
        size, self.left = self.left, 0
        return memoryview(bytes(size))


def test_the_shorter_last_datagram_waits_for_room() -> None:
    sock = BrokenSocket(errno.EAGAIN, errno.EAGAIN)
    made = DatagramSender(sock, BLOCK_BYTES, UdpSettings(), PathEvents(), conv=0, gso=True)  # type: ignore[arg-type]
    made.begin(Rest())
    assert [made.send_share() for _ in range(3)] == [0, 0, -1]
    assert sock.sent == [BLOCK_BYTES // 2]
    assert made.payload_bytes == BLOCK_BYTES // 2


class Endless(Blocks):
    """A load without an end."""

    def wait_us(self, now_us: int) -> int:
        return 0


def test_a_visit_sends_a_share() -> None:
    sock = BrokenSocket()
    made = DatagramSender(sock, BLOCK_BYTES, UdpSettings(), PathEvents(), conv=0, gso=True)  # type: ignore[arg-type]
    made.begin(Endless())
    assert made.send_share() == 0
    assert 0 < made.payload_bytes <= VISIT_BYTES + BLOCK_BYTES * 64
