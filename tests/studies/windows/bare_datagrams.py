"""Datagrams per second from one process to another, without the program.

Runs under any interpreter, also Windows'. Prints payload bits per second of datagrams of 1,400 bytes.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

SIZE, SECONDS = 1_400, 2.0


def send(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        end_s, datagram = time.perf_counter() + SECONDS + 1, bytes(SIZE)
        while time.perf_counter() < end_s:
            sock.send(datagram)


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        port, buffer, count = sock.getsockname()[1], bytearray(65_536), 0
        with subprocess.Popen([sys.executable, __file__, str(port)], stdin=subprocess.DEVNULL):
            sock.recv_into(buffer)
            end_s = time.perf_counter() + SECONDS
            while time.perf_counter() < end_s:
                sock.recv_into(buffer)
                count += 1
    print(count * SIZE * 8 / SECONDS)


if __name__ == "__main__":
    send(int(sys.argv[1])) if len(sys.argv) > 1 else main()
