"""The port of the server that stands in for iperfpy."""

from __future__ import annotations

import socket

import pytest

from iperfpy.protocols.datagrams.datagram_socket import udp_socket
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.testing import loopback
from iperfpy.protocols.testing.loopback import LoopbackServer

pytestmark = pytest.mark.live


def test_a_number_that_is_taken_over_udp_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[socket.socket] = []

    def first_is_taken(family: int, local: tuple[str, int]) -> socket.socket:
        if not taken:
            taken.append(udp_socket(family, local))
        return udp_socket(family, local)

    monkeypatch.setattr(loopback, "udp_socket", first_is_taken)
    with LoopbackServer() as server:
        (other,) = taken
        assert server.local != other.getsockname()
        # Nobody else can take the number until the transport binds it.
        with pytest.raises(TransportError, match="in use"):
            udp_socket(socket.AF_INET, server.local)
        server.shared(lambda local: udp_socket(socket.AF_INET, local))
    other.close()
