"""A KCP flow that follows the size of datagrams, over a simulated path."""

from __future__ import annotations

from typing import Any

from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.kcp.size_range import SizeRange
from iperfpy.protocols.simulator import Bulk, Path, SimulatedFlow, Simulation, bdp_bytes
from tests.protocols.kcp.ends import Sink

RATE, RTT_US = 8e6, 40_000
BYTES_ON_PATH = 28  # IPv4 and UDP headers


class AfterOpening(Bulk):
    """Writes once the size for the first data is known, as the channel does. Bytes ascend."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, pattern=bytes(range(256)) * 256)
        self._engine, self._looks_us = engine, 0

    def feed(self, now_us: int) -> int:
        assert self._engine.sizes is not None
        if self._engine.sizes.opened:
            return super().feed(now_us)
        self._looks_us = now_us + 1_000
        return 0

    def due_us(self) -> int | None:
        return None if self.written_bytes else self._looks_us


class Sized:
    """One flow. `kind`: kcp or kcp-bbr."""

    def __init__(self, kind: str, sizes: SizeRange, path: Path, peer: SizeRange | None = None) -> None:
        self.sink = Sink()
        self.sender = make(kind, sizes)
        self.receiver = make(kind, peer or sizes, self.sink)
        self.simulation = Simulation(seed=1)
        there = self.simulation.link(path)
        back = self.simulation.link(path.with_(rate_bits_per_s=None, changes=()))
        self.sender.search_size(0)
        self.flow: SimulatedFlow = self.simulation.flow(
            self.sender, self.receiver, there, back, AfterOpening(self.sender)
        )

    def run(self, until_s: float) -> None:
        self.simulation.run(int(until_s * 1e6))

    def share(self, since_s: float, until_s: float) -> float:
        """Payload delivered between two times, as a share of what the path carries in datagrams of the
        present size."""
        self.run(since_s)
        before = self.receiver.receiving.bytes
        self.run(until_s)
        carried = 8 * (self.receiver.receiving.bytes - before) / (until_s - since_s)
        mtu = self.sender.sending.mtu
        return carried / (RATE * (mtu - 24) / (mtu + BYTES_ON_PATH))

    def assert_intact(self) -> None:
        """The payload arrived in order, each byte once."""
        pattern = bytes(range(256))
        data = bytes(self.sink.data)
        assert data
        assert data == (pattern * (len(data) // 256 + 1))[: len(data)]


def make(kind: str, sizes: SizeRange, deliver: Any = None) -> Engine:
    if kind == "kcp":
        return engine_factory.stock(7, KcpSettings(sndwnd=64, rcvwnd=64), deliver, sizes=sizes)
    return engine_factory.with_bbr(7, KcpBbrSettings(), deliver, sizes=sizes)


def path(**fields: Any) -> Path:
    return Path(
        **{
            "rate_bits_per_s": RATE,
            "buffer_bytes": bdp_bytes(RATE, RTT_US),
            "delay_us": RTT_US / 2,
            **fields,
        }
    )
