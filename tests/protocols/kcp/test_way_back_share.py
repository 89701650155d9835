"""Bytes of the way back of kcp-bbr, as a share of the way there, and the paths that this opens."""

from __future__ import annotations

from functools import cache

import pytest

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings
from iperfpy.protocols.simulator import Bulk, Path, SecondWay, Simulation, bdp_bytes
from iperfpy.protocols.simulator.truth import Truth
from tests.studies.paths.watched import MSS, PAYLOAD_SHARE, Watched, single

RATE, RTT_US, SECONDS = 8e6, 60_000, 3.0
LOSSES = [
    (0.0, 0.0),
    (0.1, 0.1),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0.1, 0.0), (0.02, 0.02))),
]
IPV4, IPV6 = 28, 48


def _older(seed: int) -> Engine:
    """An end as it is towards an older iperfpy or a stock peer."""
    return with_bbr(seed, KcpBbrSettings(), ack_ranges=False)


def _newer(seed: int) -> Engine:
    return with_bbr(seed, KcpBbrSettings())


def _way(loss: float, rate: float = RATE, rtt_us: int = RTT_US) -> Path:
    return Path(rate_bits_per_s=rate, buffer_bytes=bdp_bytes(rate, rtt_us), delay_us=rtt_us / 2, loss=loss)


@cache
def _run(ranges: bool, there: float, back: float) -> Watched:
    make = _newer if ranges else _older
    return single(_way(there), Path(delay_us=RTT_US / 2, loss=back), 1, SECONDS, make)


def _share(watched: Watched, headers: int) -> float:
    there, back = watched.flow.forward.truth, watched.flow.backward.truth

    def carried(truth: Truth) -> int:
        return truth.sent_bytes + headers * truth.sent

    return carried(back) / carried(there)


@pytest.mark.parametrize(("there", "back"), LOSSES)
def test_ranges_take_two_percent_of_the_way_there_at_most(there: float, back: float) -> None:
    watched = _run(True, there, back)
    assert _share(watched, IPV4) <= 0.02
    assert _share(watched, IPV6) <= 0.025
    # The three seconds hold the start, whose length depends on the segments that are lost.
    assert watched.receiver.receiving.bytes > 0.8 * RATE / 8 * SECONDS * (1 - there) * PAYLOAD_SHARE


@pytest.mark.parametrize(("there", "back"), LOSSES)
def test_towards_an_older_peer_it_is_three_and_a_half_percent_at_most(there: float, back: float) -> None:
    watched = _run(False, there, back)
    assert _share(watched, IPV4) <= 0.035
    assert watched.receiver.receiving.bytes > 0.8 * RATE / 8 * SECONDS * (1 - there) * PAYLOAD_SHARE


@pytest.mark.parametrize("make", [_newer, _older], ids=["ranges", "older"])
def test_a_slow_path_has_one_datagram_per_eighth_of_a_round_trip_at_most(
    make: type[Engine],
) -> None:
    """Each datagram of data comes later than that. The first datagrams open the stream."""
    rate, rtt_us, seconds = 0.3e6, 160_000, 15.0
    watched = single(_way(0.02, rate, rtt_us), Path(delay_us=rtt_us / 2), 1, seconds, make)
    assert watched.flow.backward.truth.sent <= seconds * 1e6 / (rtt_us / 8) + 30
    assert watched.flow.backward.truth.sent > 0.4 * watched.flow.forward.truth.sent


@pytest.mark.parametrize("back", [0.02, 0.1])
def test_lost_acknowledgements_cost_no_retransmissions(back: float) -> None:
    watched = _run(True, 0.0, back)
    assert watched.sender.delivery.way_back.lost == pytest.approx(watched.flow.backward.truth.lost, abs=3)
    assert watched.receiver.receiving.duplicates <= 0.002 * watched.sender.counts.segments_sent
    assert _run(True, 0.1, 0.1).receiver.receiving.duplicates <= 0.01 * watched.sender.counts.segments_sent


def test_needless_retransmissions_are_found_on_two_ways_of_different_length() -> None:
    way = _way(0.0).with_(second_way=SecondWay(extra_us=40_000))
    watched = single(way, Path(delay_us=RTT_US / 2, loss=0.02), 1, SECONDS, _newer)
    truth, sender = watched.receiver.receiving.duplicates, watched.sender
    assert truth > 5
    assert abs(sender.recovery.spurious - truth) <= 0.02 * sender.counts.segments_sent


def test_a_path_that_copies_datagrams_makes_no_retransmission_needless() -> None:
    way = _way(0.1).with_(duplicate=0.1)
    watched = single(way, Path(delay_us=RTT_US / 2), 1, SECONDS, _newer)
    assert watched.receiver.receiving.duplicates > 100
    assert watched.sender.recovery.spurious <= 0.01 * watched.sender.counts.retransmitted + 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "back", "loss", "least"),
    [(100e6, 1e6, 0.02, 0.93), (100e6, 5e6, 0.005, 0.95), (10e6, 0.1e6, 0.0, 0.7)],
    ids=["100/1 2 %", "100/5 0.5 %", "10/0.1"],
)
def test_a_thin_way_back_does_not_limit(rate: float, back: float, loss: float, least: float) -> None:
    """A hundredth of the rate is 14 bytes per datagram, a stock ACK with its headers 52.

    The start queues ACKs on the way back, and PROBE_RTT then asks whether the path is as long as that.
    """
    rtt_us, begin_us, end_us = 20_000, 1_000_000, 1_500_000
    thin = Path(rate_bits_per_s=back, buffer_bytes=20_000, delay_us=rtt_us / 2)
    simulation = Simulation(1)
    sender, receiver = _newer(1), _newer(1)
    flow = simulation.flow(
        sender, receiver, simulation.link(_way(loss, rate, rtt_us)), simulation.link(thin), Bulk(sender)
    )
    simulation.run(begin_us)
    before = receiver.receiving.bytes + MSS * receiver.receiving.stored
    simulation.run(end_us)
    after = receiver.receiving.bytes + MSS * receiver.receiving.stored
    limit = rate * (1 - loss) * PAYLOAD_SHARE
    assert 8e6 * (after - before) / (end_us - begin_us) >= least * limit
    assert flow.backward.truth.overflowed == 0
