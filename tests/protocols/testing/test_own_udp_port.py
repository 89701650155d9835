"""The conformance checks over a transport with a UDP port of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from iperfpy.protocols.contract import Channel, ClientPort, ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.server_port import SharedPort
from iperfpy.protocols.kcp import Kcp
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.testing.conformance import CHECKS, Check, Subject, name_of

pytestmark = pytest.mark.live


class OwnUdp:
    """A `ClientPort` or `ServerPort` that puts the transport's own UDP port in place of the shared one."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    @property
    def remote(self) -> SocketAddress:
        remote: SocketAddress = self._port.remote_udp
        return remote

    def shared(self, open: Callable[[SocketAddress], Any]) -> Any:
        return self._port.own_udp(open_own) if open == SharedPort.open else self._port.shared(open)


def open_own(sock: socket.socket) -> SharedPort:
    own = DatagramSocket(sock)
    own.share_port()
    own.report_destination()
    return SharedPort(own)


class OwnPortKcp(Kcp):
    own_udp_port = True

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        assert port.remote_udp[1] != port.remote[1]
        return await super().connect(stream, settings, OwnUdp(port))

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        return await super().accept(stream, settings, OwnUdp(port))


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_contract(check: Check) -> None:
    check(Subject(OwnPortKcp(), OwnPortKcp.settings()))
