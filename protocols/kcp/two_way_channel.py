"""A KCP stream that sends and receives: the engine does both anyway, so only the payload needs a way out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from iperfpy.protocols.contract import Channel, Load, SocketAddress
from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.errors import SettingsError, StreamPeerError
from iperfpy.protocols.kcp.channel import KcpChannel
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.settings import Settings

MOST_EARLY_BYTES = 16 << 20
"""Payload that may arrive before the program takes it."""


class TwoWayChannel(KcpChannel):
    """One KCP stream at one end. `wake` has nothing to do: the load is asked after each wake-up of the event
    loop that brought datagrams.

    Parameters
    ----------
    sends : True if this end counts what it sends, False if what it receives
    """

    def __init__(
        self,
        engine: Engine,
        path: DatagramPath,
        settings: Settings,
        *,
        sends: bool,
        wrapped: EnvelopedEngine | None = None,
    ) -> None:
        super().__init__(engine, path, settings, sends=True, wrapped=wrapped)
        self._counts_sent = sends

    def keep(self, write: Callable[[memoryview], None]) -> None:
        contiguous = np.ascontiguousarray
        self.engine.receiving.deliver_to(lambda payload: write(contiguous(payload).reshape(-1).data))

    def counters(self) -> dict[str, Value]:
        payload = self.engine.sending.bytes_acked if self._counts_sent else self.received_bytes
        return super().counters() | {"bytes": payload}

    @property
    def received_bytes(self) -> int:
        """Payload that has arrived."""
        return self.engine.receiving.bytes

    def returned(self) -> Channel:
        return ReturnedHalf(self)


class ReturnedHalf(Channel):
    """The payload that a stream receives, beside a channel that sends on it.

    Parameters
    ----------
    whole : the channel of the stream
    """

    def __init__(self, whole: TwoWayChannel) -> None:
        self._whole = whole

    @property
    def first_data_us(self) -> int | None:  # type: ignore[override]  # a plain attribute of other channels
        return self._whole.first_data_us

    @property
    def heard_us(self) -> int | None:
        return self._whole.heard_us

    def signs(self, since_us: int) -> tuple[str, ...]:
        return self._whole.signs(since_us)

    def fileno(self) -> int:
        return self._whole.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._whole.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self._whole.remote_address

    def counters(self) -> dict[str, Value]:
        return self._whole.counters() | {"bytes": self._whole.received_bytes}

    def held_bytes(self) -> int:
        return self._whole.held_bytes()

    async def send(self, load: Load) -> None:
        raise SettingsError("the returned half of a stream receives only")

    async def receive(self) -> None:
        await self._whole.receive()

    async def drain(self) -> None:
        """This half sends nothing."""

    async def close(self) -> None:
        await self._whole.close()


class EarlyPayload:
    """Payload that arrives before the program takes it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0

    def hold(self, payload: memoryview | np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        """Keep a copy. Raises `StreamPeerError` beyond `MOST_EARLY_BYTES`."""
        self._bytes += payload.nbytes
        if self._bytes > MOST_EARLY_BYTES:
            raise StreamPeerError("the peer sent more than is kept before the test begins")
        self._parts.append(payload.tobytes())

    def hand_to(self, write: Callable[[memoryview], None]) -> None:
        """Give all of it to `write`, in order, and forget it."""
        parts, self._parts = self._parts, []
        for payload in parts:
            write(memoryview(payload))
