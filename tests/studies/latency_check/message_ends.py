"""The two ends of a message test in the simulator, with the settings and the engines of the program."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from iperfpy.experiments.contender import Contender
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings, SharedSettings
from iperfpy.protocols.simulator import Endpoint, Path, Simulation
from iperfpy.protocols.simulator.application import Writer
from iperfpy.protocols.simulator.message_application import UNANSWERED, Bytes, Echoes, Messages
from tests.studies.latency_check.message_paths import PER_S, SIZE_BYTES

Deliver = Callable[[Bytes], None]
REST_US = 5_000_000
"""Time for the answers after the last message."""
START_US = 100_000
IP_UDP_BYTES = 28


class Datagrams:
    """An end without a protocol: each write is a datagram, and each datagram is handed on."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._waiting: deque[bytes] = deque()
        self.ip_bytes_sent = 0

    def writable(self) -> int:
        return SIZE_BYTES

    def write(self, data: memoryview, now_us: int) -> int:
        self._waiting.append(bytes(data))
        return len(data)

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        for datagram in batch:
            self._deliver(np.array(datagram, np.uint8))

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        left = [DatagramBatch.of(np.frombuffer(data, np.uint8), len(data)) for data in self._waiting]
        self.ip_bytes_sent += sum(len(data) + IP_UDP_BYTES for data in self._waiting)
        self._waiting.clear()
        return left

    def deadline_us(self) -> int | None:
        return None


class KcpEnd:
    """An engine, in the envelope of its settings."""

    def __init__(self, engine: Engine, settings: SharedSettings) -> None:
        self._engine = engine
        layers = layers_of(settings, None, os.urandom, agreed=True)
        self._outer = EnvelopedEngine(engine, layers) if layers else engine

    @property
    def ip_bytes_sent(self) -> int:
        counts = self._engine.counts
        return counts.wire_bytes_sent + IP_UDP_BYTES * counts.datagrams_sent

    def writable(self) -> int:
        return self._engine.writable()

    def write(self, data: memoryview, now_us: int) -> int:
        return self._engine.write(data, now_us)

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self._outer.receive(batch, now_us)

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        return self._outer.transmit(now_us)

    def deadline_us(self) -> int | None:
        return self._engine.deadline_us()


class End(Endpoint, Writer, Protocol):
    """An end that an application writes to. `ip_bytes_sent`: with the headers of IPv4 and UDP."""

    @property
    def ip_bytes_sent(self) -> int: ...


def make_end(contender: Contender, conv: int, deliver: Deliver) -> End:
    """One end, put together as the transport's channel does for messages."""
    settings = contender.transport.for_messages(contender.settings)
    if isinstance(settings, KcpBbrSettings):
        engine = engine_factory.with_bbr(conv, settings, deliver, boundaries=True, message_bytes=SIZE_BYTES)
        return KcpEnd(engine, settings)
    if isinstance(settings, KcpSettings):
        return KcpEnd(engine_factory.stock(conv, settings, deliver, boundaries=True), settings)
    return Datagrams(deliver)


class Exchange(NamedTuple):
    """One simulated test.

    round_trips_ms : of the answered messages, (n,)
    ip_bytes_sent : by the end that asks
    """

    round_trips_ms: NDArray[np.float64]
    ip_bytes_sent: int


def exchange(contender: Contender, ways: tuple[Path, Path], seconds: float, seed: int) -> Exchange:
    """Simulate messages and their echoes."""
    applications: list[Messages | Echoes] = []
    client = make_end(contender, seed, lambda payload: applications[0].arrived(payload))
    server = make_end(contender, seed, lambda payload: applications[1].arrived(payload))
    count = round(PER_S * seconds)
    talk = Messages(client, count, 1e6 / PER_S, SIZE_BYTES, spread=True, start_us=START_US)
    applications += [talk, Echoes(server, SIZE_BYTES)]
    simulation = Simulation(seed)
    there, back = map(simulation.link, ways)
    simulation.flow(client, server, there, back, talk, answers=applications[1])
    simulation.run(START_US + round(seconds * 1e6) + REST_US)
    trips: NDArray[np.float64] = talk.round_trip_us[talk.round_trip_us != UNANSWERED] / 1e3
    return Exchange(trips, client.ip_bytes_sent)
