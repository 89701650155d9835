"""The end of a timed test: a sender that withdraws sends nothing more, and the path drains."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.simulator.application import Bulk
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.simulation import SimulatedFlow, Simulation

SECOND_US = 1_000_000
RATE = 2_000_000
QUEUE_BYTES = 1_000 * 1_428
PATH = Path(rate_bits_per_s=RATE, delay_us=25_000, buffer_bytes=QUEUE_BYTES)
DRAIN_US = round(QUEUE_BYTES * 8 / RATE * SECOND_US)


def stock() -> tuple[Engine, Engine]:
    return engine_factory.stock(1, KcpSettings(mtu=1400)), engine_factory.stock(1, KcpSettings(mtu=1400))


def with_bbr() -> tuple[Engine, Engine]:
    return engine_factory.with_bbr(1, KcpBbrSettings(mtu=1400)), engine_factory.with_bbr(
        1, KcpBbrSettings(mtu=1400)
    )


def started(ends: tuple[Engine, Engine]) -> tuple[Simulation, SimulatedFlow]:
    simulation = Simulation(seed=1)
    there, back = simulation.link(PATH), simulation.link(PATH)
    return simulation, simulation.flow(*ends, there, back, Bulk(ends[0]))


@pytest.mark.parametrize("make", [stock, with_bbr])
def test_nothing_leaves_after_the_end(make: type) -> None:
    """All that was sent has arrived or was dropped once the queue has drained, and the counters say so."""
    ends = make()
    simulation, flow = started(ends)
    simulation.run(3 * SECOND_US)
    ends[0].withdraw()
    sent = flow.forward.truth.sent
    simulation.run(3 * SECOND_US + DRAIN_US + SECOND_US)
    truth = flow.forward.truth
    assert truth.sent == sent == ends[0].counts.datagrams_sent
    assert truth.on_the_way == 0
    assert ends[1].counts.datagrams_received == truth.delivered == sent - truth.dropped
    assert ends[0].deadline_us() is None
    assert ends[0].writable() == 0


def test_a_sender_that_does_not_withdraw_keeps_the_path_full() -> None:
    """The case that the end of a test must not leave: stock KCP repeats a whole window."""
    ends = stock()
    simulation, flow = started(ends)
    simulation.run(3 * SECOND_US)
    ends[0].sending.limit = 0  # nothing new, but all that is in flight again
    simulation.run(3 * SECOND_US + DRAIN_US)
    assert flow.forward.truth.on_the_way > 0


def test_a_writer_that_withdrew_cannot_come_back() -> None:
    ends = stock()
    ends[0].withdraw()
    ends[0].cork()
    ends[0].uncork()
    assert ends[0].withdrawn
    assert ends[0].write(memoryview(b"late"), 0) == 0
    assert ends[0].transmit(0) == []
