"""A KCP stream that sends and receives: the engine does both anyway, so only the payload needs a way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.kcp.channel import KcpChannel
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.settings import Settings


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
        layers: Sequence[Layer] = (),
    ) -> None:
        super().__init__(engine, path, settings, sends=True, layers=layers)
        self._counts_sent = sends

    def keep(self, write: Callable[[memoryview], None]) -> None:
        contiguous = np.ascontiguousarray
        self.engine.receiving.deliver_to(lambda payload: write(contiguous(payload).reshape(-1).data))

    def counters(self) -> dict[str, Value]:
        engine = self.engine
        payload = engine.sending.bytes_acked if self._counts_sent else engine.receiving.bytes
        return super().counters() | {"bytes": payload}
