"""The port of a server that lets the system choose."""

from __future__ import annotations

import socket

import pytest

from iperfpy.options import ServerOptions
from iperfpy.protocols.contract import SocketAddress
from iperfpy.runtime import sockets
from iperfpy.runtime.abort_scope import AbortScope


def _both_numbers() -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket with one number, which no test beside this one holds."""
    while True:
        tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        tcp.bind(("127.0.0.1", 0))
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
        else:
            return tcp, udp


async def test_a_port_whose_udp_number_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, taken), (second, free) = _both_numbers(), _both_numbers()
    number = second.getsockname()[1]
    free.close()
    offered = iter((first, second))

    def listen_at(family: int, address: SocketAddress, dual: bool, device: str) -> socket.socket:
        return next(offered)

    monkeypatch.setattr(sockets, "_listen_at", listen_at)
    with taken, await sockets.listen(ServerOptions(port=0, bind="127.0.0.1"), AbortScope(), 1.0) as chosen:
        assert chosen.getsockname()[1] == number
