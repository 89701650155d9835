"""A KCP sender's record of its transmissions agrees with the fate that the simulator gave them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.kcp_evidence import path_evidence
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.simulator import Bulk, Simulation
from iperfpy.protocols.simulator.path_language import parse
from iperfpy.protocols.simulator.simulation import SimulatedFlow

SECOND = 1_000_000


def _pair(kind: str) -> tuple[Engine, Engine]:
    if kind == "kcp":
        first, second = (stock(7, KcpSettings()) for _ in range(2))
        return first, second
    settings, ranges = KcpBbrSettings(), kind == "kcp-bbr"
    return with_bbr(7, settings, ack_ranges=ranges), with_bbr(7, settings, ack_ranges=ranges)


@cache
def _measured(kind: str, text: str, seconds: int = 5) -> tuple[PathEvidence, SimulatedFlow]:
    """Run one flow over a path. The result is shared."""
    there, back = parse(text)
    simulation = Simulation(3)
    sender, receiver = _pair(kind)
    flow = simulation.flow(sender, receiver, simulation.link(there), simulation.link(back), Bulk(sender))
    simulation.run(seconds * SECOND)
    evidence = path_evidence(sender, seconds * SECOND)
    assert evidence is not None
    return evidence, flow


KINDS = ("kcp", "kcp-bbr", "kcp-bbr without ranges")
QUEUE = "8M,delay=20ms,queue=1bdp"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [QUEUE, f"{QUEUE},loss=5", "8M,delay=20ms,police=4M/32k"])
def test_the_share_that_arrived_is_the_paths(kind: str, path: str) -> None:
    evidence, flow = _measured(kind, path, 3)
    bins, truth = evidence.flight, flow.forward.truth
    assert bins is not None
    sent, arrived = int(bins.sent_packets.sum()), int(bins.arrived_packets.sum())
    assert (bins.arrived_packets <= bins.sent_packets).all()
    assert (bins.arrived_bytes <= bins.sent_bytes).all()
    # The record ends a round trip before the test.
    assert 0.9 < sent / truth.sent <= 1
    # A tenth of the policed packets may be of the last round trip.
    assert 1 - arrived / sent == pytest.approx(truth.dropped_share, abs=0.008)
    assert int(bins.sent_bytes.sum()) / sent == pytest.approx(truth.sent_bytes / truth.sent + 28, rel=0.01)


def test_acknowledgements_in_ranges_tell_the_share_also_if_many_are_lost() -> None:
    evidence, flow = _measured("kcp-bbr", f"{QUEUE},loss=5 down:loss=20", 3)
    bins, truth = evidence.flight, flow.forward.truth
    assert bins is not None
    arrived = int(bins.arrived_packets.sum()) / int(bins.sent_packets.sum())
    assert 1 - arrived == pytest.approx(truth.dropped_share, abs=0.004)


def test_delay_by_time_shows_the_queue_before_a_loss() -> None:
    """A tail drop comes at the longest delay, in the bins of the packets that were lost."""
    evidence, flow = _measured("kcp-bbr", QUEUE, 3)
    bins = evidence.flight
    assert bins is not None
    losing = (bins.sent_packets > bins.arrived_packets) & ~np.isnan(bins.delay_us)
    assert losing.sum() > 5
    queue_us = np.nanmax(bins.delay_us) - 40_000
    assert queue_us == pytest.approx(flow.forward.truth.longest_us, rel=0.1)
    assert np.median(bins.delay_us[losing]) > 40_000 + 0.9 * queue_us
    assert evidence.min_rtt_us == pytest.approx(40_000, abs=3_000)
    assert evidence.rtt_us["max"] == pytest.approx(np.nanmax(bins.delay_us), rel=0.05)


def test_losses_at_random_form_as_many_runs_as_chance_makes() -> None:
    evidence, _ = _measured("kcp-bbr", "8M,delay=20ms,queue=4bdp,loss=5", 3)
    assert evidence.loss_runs is not None
    assert evidence.lost_in_runs is not None
    assert evidence.lost_in_runs / evidence.loss_runs < 1.6
    bursts, _ = _measured("kcp-bbr", "8M,delay=20ms,queue=4bdp,ge=0.66/12.5", 3)
    assert bursts.loss_runs is not None
    assert bursts.lost_in_runs is not None
    assert bursts.lost_in_runs / bursts.loss_runs > 4


def test_packets_that_were_overtaken_are_displaced_and_not_lost() -> None:
    evidence, flow = _measured("kcp-bbr", "8M,delay=20ms,queue=4bdp,late=30ms/2", 3)
    assert evidence.displaced_packets == pytest.approx(flow.forward.truth.reordered, rel=0.2)
    assert evidence.displacement_us == pytest.approx(30_000, rel=0.2)


def test_a_rate_that_varies_has_a_deviation_and_a_steady_one_has_none() -> None:
    steady, _ = _measured("kcp-bbr", "8M,delay=20ms,queue=4bdp", 3)
    varying, _ = _measured("kcp-bbr", "8M,delay=20ms,queue=8bdp,walk=200ms/0.4/0.8", 3)
    assert steady.rate_deviation is not None
    assert varying.rate_deviation is not None
    assert steady.rate_deviation < 0.06 < varying.rate_deviation


def test_time_by_limit_names_the_window() -> None:
    evidence, _ = _measured("kcp", "50M,delay=100ms,queue=8M", 1)
    assert evidence.limited_us == {"send-window": SECOND}


def test_an_engine_that_has_sent_nothing_has_no_evidence() -> None:
    assert path_evidence(_pair("kcp")[0], SECOND) is None


def test_packets_whose_acknowledgement_is_still_to_come_are_no_losses() -> None:
    """A machine that stalls reads them late: nothing overtook them."""
    there, back = parse(QUEUE)
    simulation = Simulation(3)
    sender, receiver = _pair("kcp")
    simulation.flow(sender, receiver, simulation.link(there), simulation.link(back), Bulk(sender))
    simulation.run(SECOND)
    evidence = path_evidence(sender, SECOND + 500_000)
    assert evidence is not None
    assert evidence.flight is not None
    late = path_evidence(sender, SECOND + 60 * SECOND)
    assert late is not None
    assert late.flight is not None
    assert int(late.flight.sent_packets.sum()) > int(evidence.flight.sent_packets.sum())
