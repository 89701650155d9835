"""TCP and UDP ports that were free a moment ago, for programs that cannot be given port 0."""

from __future__ import annotations

import random
import socket
from pathlib import Path


def free_port() -> int:
    """A port's number, of the kernel's choice."""
    while True:
        with socket.socket() as tcp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
        if _is_free(port):
            return port


def free_ports(count: int) -> range:
    """`count` neighbouring ports, outside the range that the kernel takes the ports of connections from.

    A neighbour within that range may go to the next connection of the very program that was
    told to use it.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    outside = max(range(1_024, first), range(last + 1, 65_536), key=len)
    while True:
        first = random.choice(outside[: 1 - count or None])
        if all(_is_free(port) for port in range(first, first + count)):
            return range(first, first + count)


def _is_free(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        try:
            tcp.bind(("", port))
            udp.bind(("", port))
        except OSError:
            return False
        return True
