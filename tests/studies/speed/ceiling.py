"""Bare datagrams from Python: the upper bound for every protocol over the same socket class.

    python -m tests.studies.speed.ceiling serve PORT
    python -m tests.studies.speed.ceiling send PORT SECONDS

Socket class, batch length, datagram size and buffers are those of a KCP stream. The sender has no flow
control, so the sink's count is the figure.
"""

from __future__ import annotations

import json
import select
import sys
import time

import numpy as np

from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket

MTU = 1400
BUFFER_BYTES = 4 << 20
SILENCE_S, PATIENCE_S = 0.4, 20.0


def serve(port: int) -> dict[str, float]:
    """Count datagrams until none arrives for a while; the measured time is from the first batch to the
    last."""
    size = 0
    first = last = 0.0
    with DatagramSocket.bound(("127.0.0.1", port)) as sock:
        sock.size_buffers(BUFFER_BYTES)
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        # The sender may still be starting, so the first wait is longer.
        wait_s = PATIENCE_S
        while poll.poll(wait_s * 1000):
            while (received := sock.receive()) is not None:
                size += received[0].size
            last = time.monotonic()
            first = first or last
            wait_s = SILENCE_S
    return {"bytes": size, "seconds": last - first}


def send(port: int, seconds: float) -> dict[str, float]:
    """Send batches of full datagrams as fast as the kernel accepts them."""
    count = min(MAX_DATAGRAMS, MAX_BYTES // MTU)
    batch = DatagramBatch(np.zeros(count * MTU, np.uint8), MTU, count, MTU)
    sent = 0
    with DatagramSocket.connected(("127.0.0.1", port)) as sock:
        sock.size_buffers(BUFFER_BYTES)
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLOUT)
        began = now = time.monotonic()
        while True:
            taken = sock.send(batch)
            sent += taken * MTU
            if taken < count:
                # The socket buffer is full: wait until the kernel has sent a part of it.
                poll.poll(1000)
            now = time.monotonic()
            if now - began >= seconds:
                return {"bytes": sent, "seconds": now - began}


def main(arguments: list[str]) -> None:
    role, port = arguments[0], int(arguments[1])
    figures = serve(port) if role == "serve" else send(port, float(arguments[2]))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
