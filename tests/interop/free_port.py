"""TCP and UDP ports that were free a moment ago, for programs that cannot be given port 0.

They lie outside the range from which the kernel takes the ports of connections: a port within it may go to
the next connection of any program before the program under test binds it. Each worker of pytest-xdist draws
from a slice of its own, and no port twice: a port that was drawn stays free until its program has started.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from pathlib import Path

WORKERS = 16
"""Slices; workers beyond that share one."""
_drawn: set[int] = set()
_lock = threading.Lock()


def free_port() -> int:
    """Draw a port that is free for TCP and UDP."""
    return free_ports(1)[0]


def free_ports(count: int) -> range:
    """Draw `count` neighbouring ports that are free for TCP and UDP."""
    ports = _slice()
    while True:
        first = random.choice(ports[: 1 - count or None])
        wanted = range(first, first + count)
        with _lock:
            if _drawn.isdisjoint(wanted) and all(_is_free(port) for port in wanted):
                _drawn.update(wanted)
                return wanted


def _slice() -> range:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    outside = max(range(5_300, first), range(last + 1, 65_536), key=len)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    size = len(outside) // WORKERS
    return outside[worker * size : (worker + 1) * size]


def _is_free(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        try:
            tcp.bind(("", port))
            udp.bind(("", port))
        except OSError:
            return False
        return True
