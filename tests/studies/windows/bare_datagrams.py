"""Datagrams per second from one process to another, without the program.

    python bare_datagrams.py [BYTES]      payload bits per second of datagrams of that length (1,400)

Runs under any interpreter, also Windows'.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

USUAL, SECONDS = 1_400, 2.0


def send(port: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        end_s, datagram = time.perf_counter() + SECONDS + 1, bytes(size)
        while time.perf_counter() < end_s:
            sock.send(datagram)


def receive(size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        port, buffer, count = sock.getsockname()[1], bytearray(65_536), 0
        command = [sys.executable, __file__, str(size), str(port)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL):
            sock.recv_into(buffer)
            end_s = time.perf_counter() + SECONDS
            while time.perf_counter() < end_s:
                sock.recv_into(buffer)
                count += 1
    print(count * size * 8 / SECONDS)


if __name__ == "__main__":
    length = int(sys.argv[1]) if len(sys.argv) > 1 else USUAL
    send(int(sys.argv[2]), length) if len(sys.argv) > 2 else receive(length)
