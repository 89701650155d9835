"""The payload of an end that returns what it receives, byte for byte (`iperfpy.protocols.contract.Load`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from iperfpy.errors import PathError
from iperfpy.traffic.payload import FOREVER, LONGEST_WAIT_US

MOST_WAITING_BYTES = 32 << 20
"""Bytes that wait for the way back: more than the widest window of a deployed KCP peer."""
TAKE_BYTES = 1 << 16
"""Bytes that leave in one call, unless one arrival was longer."""


class StreamEcho:
    """Keeps what arrives until it leaves. Everything runs on the event loop's thread.

    Parameters
    ----------
    wake : of the channel, called when there is something to send
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._stopped = False

    def arrived(self, data: memoryview) -> None:
        """Keep a copy of what has arrived. Raises `PathError` if too much waits."""
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MOST_WAITING_BYTES:
            waits = MOST_WAITING_BYTES >> 20
            raise PathError(f"the way back is slower than the peer sends: {waits} MiB wait to be returned")
        self._waiting.append(bytes(data))
        self._wake()

    @property
    def may_block(self) -> bool:
        return False

    def wait_us(self, now_us: int) -> int:
        """0 if bytes wait; else the time after which to ask again, unless the channel is woken before."""
        if self._stopped:
            return FOREVER
        return 0 if self._waiting else LONGEST_WAIT_US

    def take(self) -> memoryview:
        """The bytes that leave now."""
        parts, size = [self._waiting.popleft()], 0
        size = len(parts[0])
        # Short pieces leave together: each call has a cost of its own.
        while self._waiting and size + len(self._waiting[0]) <= TAKE_BYTES:
            parts.append(self._waiting.popleft())
            size += len(parts[-1])
        self._waiting_bytes -= size
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def stop(self) -> None:
        """Send no more bytes."""
        self._stopped = True
