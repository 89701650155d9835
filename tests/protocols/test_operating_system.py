"""The differences of operating systems: numbers by system, and calls in place of missing ones."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from iperfpy.protocols import operating_system
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.operating_system import ABSENT


def module_on(platform: str, monkeypatch: pytest.MonkeyPatch, name: str = "posix") -> ModuleType:
    """A second copy of the module, as it would be imported on that platform."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "name", name)
    spec = importlib.util.spec_from_file_location("other_system", operating_system.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.linux
@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", {"IP_RECVPKTINFO": 8, "UDP_GRO": 104, "IP_FRAGMENTS": 10, "TCP_INFO": 11}),
        ("darwin", {"IP_RECVPKTINFO": 26, "UDP_GRO": ABSENT, "IP_FRAGMENTS": 28, "TCP_INFO": ABSENT}),
        ("freebsd14", {"IP_RECVPKTINFO": ABSENT, "IP_RECVDSTADDR": 7, "IP_FRAGMENTS": 67}),
        ("win32", {"IP_FRAGMENTS": 14, "SO_TIMESTAMPNS": ABSENT, "SO_MAX_PACING_RATE": ABSENT}),
        ("haiku1", {"IP_RECVPKTINFO": ABSENT, "IP_FRAGMENTS": ABSENT, "TCP_INFO": ABSENT}),
    ],
)
def test_an_option_has_the_number_of_its_system(
    platform: str, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_on(platform, monkeypatch, "nt" if platform == "win32" else "posix")
    assert {name: getattr(module, name) for name in expected} == expected


@pytest.mark.parametrize("level", [socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_UDP])
def test_the_kernel_refuses_an_absent_option(level: int) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, check=lambda error: error.errno == errno.ENOPROTOOPT),
    ):
        sock.setsockopt(level, ABSENT, 1)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[DatagramSocket, DatagramSocket]]:
    """Two sockets on loopback, made without control messages as on Windows."""
    monkeypatch.setattr(operating_system, "HAS_MESSAGES", False)
    with (
        DatagramSocket.bound(("127.0.0.1", 0), reuse=False, offload=False) as one,
        DatagramSocket.bound(("127.0.0.1", 0), reuse=False, offload=False) as other,
    ):
        yield one, other


def test_datagrams_travel_without_control_messages(pair: tuple[DatagramSocket, DatagramSocket]) -> None:
    one, other = pair
    assert one._send_message != one.raw.sendmsg
    one.connect(other.local_address)
    one.send(DatagramBatch.of(np.frombuffer(b"abcabcab", np.uint8), 3))
    received = other.receive_at()
    assert received is not None
    batch, sender, local = received
    assert [bytes(each) for each in batch] == [b"abc", b"abc", b"ab"]
    assert (sender, local) == (one.local_address, other.local_address)
    other.send_now(b"answer", sender)
    answer = one.receive()
    assert answer is not None
    assert bytes(answer[0].data) == b"answer"


def test_an_unbound_socket_has_the_wildcard_address() -> None:
    class Unbound(socket.socket):
        def getsockname(self) -> object:
            raise OSError(errno.EINVAL, "not bound")

    with Unbound(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert operating_system.local_name(sock) == ("0.0.0.0", 0)


def test_a_process_runs_until_it_was_waited_for() -> None:
    assert operating_system.is_running(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert not operating_system.is_running(child.pid)
    assert not operating_system.is_running(2**40)
