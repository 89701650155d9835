"""Facts about the sockets of channels, which may have failed by then."""

from __future__ import annotations

import socket

from iperfpy.runtime.sockets import SocketFacts, socket_facts


def test_a_closed_socket_has_no_facts() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    descriptor = sock.fileno()
    assert socket_facts(descriptor).receive_buffer_bytes
    sock.close()
    assert sock.fileno() == -1
    assert socket_facts(sock.fileno()) == SocketFacts(None, None, None, "")
