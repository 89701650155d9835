"""Two users on the server's machine: the server's UDP port stays the server's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket

IN_USE, NOBODY = 7, 65534
BIND = f"""
import os, socket, sys
os.setuid({NOBODY})
with socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, sys.argv[1]), 1)
    try:
        sock.bind((sys.argv[2], int(sys.argv[3])))
    except OSError:
        sys.exit({IN_USE})
"""

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be two users"),
    pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT"),
]


@pytest.mark.parametrize(
    ("server", "others"),
    [(("127.0.0.1", 0), ("127.0.0.1", "0.0.0.0")), (("::", 0, 0, 0), ("::1", "::", "127.0.0.1"))],
    ids=["one address", "all addresses"],
)
def test_another_user_cannot_bind_the_servers_port(server: SocketAddress, others: tuple[str, ...]) -> None:
    with DatagramSocket.bound(server, reuse=False) as shared:
        shared.share_port()
        port = shared.local_address[1]
        local = server if server[0] != "::" else ("::1", 0, 0, 0)
        with (
            DatagramSocket.bound(local) as client,
            # The socket of a session, which shares the port.
            DatagramSocket.connected(client.local_address, (local[0], port, *local[2:]), reuse=True),
        ):
            for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
                for host in others:
                    arguments = [sys.executable, "-I", "-c", BIND, option, host, str(port)]
                    ended = subprocess.run(arguments, check=False, timeout=60)
                    assert ended.returncode == IN_USE, f"{option} at {host}"
