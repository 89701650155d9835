"""The far end of a run: a server, an echo of probes, and a counter of numbered datagrams.

    python -m tests.studies.lab_check.far ADDRESS COMMAND...

The port for reports opens last, so that a client that can connect to it finds everything else.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time

from tests.open_ports import open_ports
from tests.studies.lab_check.ports import COUNT, ECHO, REPORT, SERVER, settle_tcp

_BUFFER_BYTES = 4 << 20


def echo(address: str) -> None:
    """Send every datagram back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, ECHO))
        while True:
            data, peer = sock.recvfrom(2_048)
            sock.sendto(data, peer)


def count(sock: socket.socket, seen: list[int]) -> None:
    """Note the number of every datagram."""
    while True:
        seen.append(int.from_bytes(sock.recv(2_048)[:8], "big"))


def await_server() -> None:
    """Wait until something listens at the server's port."""
    while SERVER not in open_ports():
        time.sleep(0.05)


def main() -> int:
    """Serve until killed."""
    settle_tcp()
    address, command = sys.argv[1], sys.argv[2:]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        seen: list[int] = []
        counted = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        counted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        counted.bind((address, COUNT))
        threading.Thread(target=echo, args=(address,), daemon=True).start()
        threading.Thread(target=count, args=(counted, seen), daemon=True).start()
        await_server()
        with socket.create_server((address, REPORT)) as reports:
            while server.poll() is None:
                peer, _ = reports.accept()
                with peer:
                    if peer.recv(1):  # a client that only looks whether the port is open sends nothing
                        peer.sendall(json.dumps(seen).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
