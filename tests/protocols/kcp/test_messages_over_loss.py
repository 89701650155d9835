"""Messages over a lossy path, in virtual time: kcp-bbr is not slower than stock KCP, and never paces them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.simulator import Path, Simulation
from iperfpy.protocols.simulator.message_application import UNANSWERED, Bytes, Echoes, Messages

ONE_WAY_LOSS = 1 - 0.9**0.5
"""Ten per cent of the round trip."""
SIZE = 100

Deliver = Callable[[Bytes], None]
Make = Callable[[Deliver], Engine]


def kcp_bbr(deliver: Deliver) -> Engine:
    return with_bbr(7, KcpBbrSettings(push=True), deliver, boundaries=True, message_bytes=SIZE)


def stock_fast(deliver: Deliver) -> Engine:
    return stock(7, KcpSettings(mode="fast", push=True), deliver, boundaries=True)


def exchange(
    make: Make, seed: int, seconds: float, loss: float = ONE_WAY_LOSS, delay_us: int = 50_000
) -> tuple[Messages, tuple[Engine, Engine]]:
    """A hundred messages of 100 bytes per second over 20 Mb/s, 100 ms unless said, and their echoes."""
    applications: list[Messages | Echoes] = []
    client = make(lambda payload: applications[0].arrived(payload))
    server = make(lambda payload: applications[1].arrived(payload))
    count = round(100 * seconds)
    talk = Messages(client, count, 10_000, SIZE, spread=True, start_us=100_000)
    applications += [talk, Echoes(server, SIZE)]
    simulation = Simulation(seed)
    way = Path(20e6, 64_000, delay_us, loss=loss)
    simulation.flow(client, server, simulation.link(way), simulation.link(way), talk, answers=applications[1])
    simulation.run(round(seconds * 1e6) + 3_000_000)
    return talk, (client, server)


def p99_ms(make: Make, seconds: float, seeds: range) -> float:
    trips = np.concatenate([exchange(make, seed, seconds)[0].round_trip_us for seed in seeds])
    assert (trips != UNANSWERED).all()
    return float(np.percentile(trips, 99)) / 1e3


def test_the_rate_of_an_application_is_not_taken_for_the_paths() -> None:
    """STARTUP goes on while the application limits: a pace at its rate would hold messages up."""
    talk, (client, _) = exchange(kcp_bbr, seed=3, seconds=3, loss=0.1)
    assert client.control is not None
    assert client.control.state()["phase"] == "startup"
    assert client.control.pacing_rate > 200
    assert talk.is_answered


def test_a_message_and_its_acknowledgement_share_a_datagram() -> None:
    talk, (_, server) = exchange(kcp_bbr, seed=1, seconds=1, loss=0.0)
    assert talk.is_answered
    assert server.counts.datagrams_sent < 1.1 * server.counts.queued_segments
    assert server.counts.acks_sent > 0.9 * server.counts.queued_segments
    assert talk.round_trip_us.max() < 102_000


def test_messages_of_the_first_round_trip_do_not_wait_for_an_acknowledgement() -> None:
    """The initial window is 10 full segments (RFC 6928): 30 short messages are less."""
    talk, _ = exchange(kcp_bbr, seed=1, seconds=1, loss=0.0, delay_us=150_000)
    assert talk.is_answered
    assert talk.round_trip_us.max() < 302_000


@pytest.mark.slow
def test_p99_of_kcp_bbr_is_below_that_of_stock_kcp_fast() -> None:
    seeds = range(1, 4)
    assert p99_ms(kcp_bbr, 7, seeds) < p99_ms(stock_fast, 7, seeds)
