"""An engine with an envelope, for the exchanges of tests: it sends and receives as the channel does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer import Layer


class Enveloped:
    """Has the attributes of its engine, and the layers before its datagrams."""

    def __init__(self, engine: Engine, layers: Sequence[Layer]) -> None:
        self.engine = engine
        self.wrapped = EnvelopedEngine(engine, layers)

    def transmit(self, now_us: int, *, writer_waits: bool = False) -> list[DatagramBatch]:
        return self.wrapped.transmit(now_us, writer_waits=writer_waits)

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self.wrapped.receive(batch, now_us)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)
