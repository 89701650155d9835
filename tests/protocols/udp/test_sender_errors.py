"""Errors of `send` in the middle of a UDP stream: counted, and the datagrams sent again or left out."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from iperfpy.protocols.path_events import PathEvents, Sign
from iperfpy.protocols.udp import UdpSettings, sender
from iperfpy.protocols.udp.sender import DatagramSender

BLOCK_BYTES, BLOCKS = 100, 200


class BrokenSocket:
    """A socket whose `send` fails with the given errors first, and then for batches if it refuses them."""

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


def send_over(sock: BrokenSocket, monkeypatch: pytest.MonkeyPatch) -> tuple[DatagramSender, PathEvents]:
    monkeypatch.setattr(sender, "UNREACHABLE_S", 0)
    events = PathEvents()
    made = DatagramSender(sock, BLOCK_BYTES, UdpSettings(), events, conv=0, gso=True)  # type: ignore[arg-type]
    made.send_all(Blocks(), threading.Event())
    return made, events


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EINVAL])
def test_datagrams_count_once_they_have_left(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is gone for a while takes nothing from the amount, and GSO stays on."""
    sock = BrokenSocket(*[code] * 30)
    made, events = send_over(sock, monkeypatch)
    assert made.datagrams == BLOCKS
    assert sum(sock.sent) == BLOCKS * BLOCK_BYTES
    assert set(events.counts) <= {Sign.UNREACHABLE, Sign.OTHER}
    assert sock.segment_bytes == BLOCK_BYTES


def test_an_error_about_an_earlier_datagram_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = BrokenSocket(errno.ECONNREFUSED)
    made, events = send_over(sock, monkeypatch)
    assert made.datagrams == BLOCKS
    assert sum(sock.sent) == BLOCKS * BLOCK_BYTES
    assert events.counts == {Sign.REFUSED: 1}


def test_a_refused_batch_switches_offload_off(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = BrokenSocket(refuses_batches=True)
    made, events = send_over(sock, monkeypatch)
    assert sock.sent == [BLOCK_BYTES] * BLOCKS
    assert made.datagrams == BLOCKS
    assert not events.counts
    assert sock.segment_bytes == 0


@pytest.mark.parametrize("code", [errno.EBADF, errno.EMSGSIZE])
def test_an_error_that_no_repetition_cures_is_raised(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=os.strerror(code)):
        send_over(BrokenSocket(*[code] * 3), monkeypatch)
