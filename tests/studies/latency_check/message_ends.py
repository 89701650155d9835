"""The two ends of a message test in the simulator, with the settings and the engines of the program."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iperfpy.experiments.contender import Contender
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import profiles
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.simulator import Endpoint, Path, Simulation
from iperfpy.protocols.simulator.application import Writer
from iperfpy.protocols.simulator.message_application import UNANSWERED, Bytes, Echoes, Messages
from tests.studies.latency_check.message_paths import PER_S, SIZE_BYTES

Deliver = Callable[[Bytes], None]
REST_US = 5_000_000
"""Time for the answers after the last message."""
START_US = 100_000


class Datagrams:
    """An end without a protocol: each write is a datagram, and each datagram is handed on."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._waiting: deque[bytes] = deque()

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
        self._waiting.clear()
        return left

    def deadline_us(self) -> int | None:
        return None


class End(Endpoint, Writer, Protocol):
    """An end that an application writes to."""


def make_end(contender: Contender, conv: int, deliver: Deliver) -> End:
    """One end, put together as the transport's channel does for messages."""
    settings = contender.transport.for_messages(contender.settings)
    if isinstance(settings, KcpBbrSettings):
        return profiles.with_bbr(conv, settings, deliver, boundaries=True, message_bytes=SIZE_BYTES)
    if isinstance(settings, KcpSettings):
        return profiles.stock(conv, settings, deliver, boundaries=True)
    return Datagrams(deliver)


def round_trips_ms(
    contender: Contender, ways: tuple[Path, Path], seconds: float, seed: int
) -> NDArray[np.float64]:
    """Round trips of the answered messages of one simulated test, (n,) float64, milliseconds."""
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
    return trips
