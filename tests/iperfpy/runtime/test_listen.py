"""The port of a server that lets the system choose."""

from __future__ import annotations

import socket

import pytest

from iperfpy.options import ServerOptions
from iperfpy.protocols.contract import SocketAddress
from iperfpy.runtime import sockets


async def test_a_port_whose_udp_number_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken, socket.socket(type=socket.SOCK_DGRAM) as free:
        for one in (taken, free):
            one.bind(("127.0.0.1", 0))
        numbers = [taken.getsockname()[1], free.getsockname()[1]]
        free.close()
        offered = iter(numbers)

        def listen_at(family: int, address: SocketAddress, dual: bool, device: str) -> socket.socket:
            sock = socket.socket()
            sock.bind(("127.0.0.1", next(offered)))
            return sock

        monkeypatch.setattr(sockets, "_listen_at", listen_at)
        with await sockets.listen(ServerOptions(port=0, bind="127.0.0.1")) as chosen:
            assert chosen.getsockname()[1] == numbers[1]
