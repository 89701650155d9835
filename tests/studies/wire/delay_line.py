"""Program that carries packets between two TUN devices, each after a delay.

    python -m tests.studies.wire.delay_line NAMESPACE DEVICE NAMESPACE DEVICE DELAY_MS JITTER_MS

Every packet leaves `delay` after its arrival, plus or minus up to `jitter`, and never before the packet ahead
of it. The program carries about ten thousand packets a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence

from tests.studies.wire.namespaces import inside

TUNSETIFF = 0x4004_54CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES = 65_536
BATCH = 64
SEED = 1


class Direction:
    """Packets in transit from one device to the other, in the order in which they will leave."""

    def __init__(self, source: int, target: int, delay_s: float, jitter_s: float) -> None:
        self.source = source
        self._target = target
        self._delay_s, self._jitter_s = delay_s, jitter_s
        self._random = random.Random(SEED)
        self._held: deque[tuple[float, bytes]] = deque()

    @property
    def due_s(self) -> float:
        return self._held[0][0] if self._held else float("inf")

    def take(self) -> None:
        """Read the packets that have arrived."""
        for _ in range(BATCH):
            try:
                packet = os.read(self.source, PACKET_BYTES)
            except BlockingIOError:
                return
            varied_s = self._random.uniform(-self._jitter_s, self._jitter_s)
            leaves_s = time.monotonic() + self._delay_s + varied_s
            before_s = self._held[-1][0] if self._held else 0.0
            self._held.append((max(leaves_s, before_s), packet))

    def give(self) -> None:
        """Write the packets that are due."""
        while self._held and self._held[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):  # The device at the other end may be down.
                os.write(self._target, self._held[0][1])
            self._held.popleft()


def open_tun(namespace: str, name: str) -> int:
    """Open a TUN device in a namespace, non-blocking; packets carry no extra header."""
    with inside(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def main(arguments: Sequence[str]) -> None:
    near, near_device, far, far_device, delay_ms, jitter_ms = arguments
    ends = open_tun(near, near_device), open_tun(far, far_device)
    delay_s, jitter_s = float(delay_ms) / 1e3, float(jitter_ms) / 1e3
    directions = [Direction(*pair, delay_s, jitter_s) for pair in (ends, ends[::-1])]
    with contextlib.suppress(
        OSError
    ):  # Without real-time priority, packets are as late as the scheduler makes them.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print("ready", flush=True)
    while True:
        wait_s = min(direction.due_s for direction in directions) - time.monotonic()
        ready, _, _ = select.select(ends, (), (), None if wait_s == float("inf") else max(0.0, wait_s))
        for direction in directions:
            if direction.source in ready:
                direction.take()
            direction.give()


if __name__ == "__main__":
    main(sys.argv[1:])
