"""A TCP and UDP port of 127.0.0.1 that was free a moment ago, for programs that cannot be given port 0."""

from __future__ import annotations

import socket


def free_port() -> int:
    """The port's number."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
