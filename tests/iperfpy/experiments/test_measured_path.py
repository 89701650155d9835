"""The figures of a path so far: capacities, sizes, rungs, and transports that do not get through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.experiments.check_schedule import KCP, TCP, UDP, CheckStep, StepPart
from iperfpy.experiments.measured_path import MeasuredPath, Outcome
from iperfpy.plan import Direction
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.store.stored_run import Run
from tests.iperfpy.experiments.test_run_figures import row, run_of, started

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE


def rung(share: float, sent: int, arrived: int, *, told: bool = False) -> Outcome:
    """A second of datagrams at a rate. `told`: the receiver recorded when they arrived."""
    counted = {"datagrams_numbered": sent, "lost_datagrams": sent - arrived, "datagrams_received": arrived}
    run = run_of(started("udp"), row({"datagrams_sent": sent}, dict(counted)))
    if told:
        ones = np.ones(9, np.int64)
        path = PathEvidence(FlightBins(0, 1000, ones, ones, ones, ones, np.zeros(9), True))
        assert run.ended is not None
        evidence = (RunEvidence("udp", False, False, 1, 1.0, 1.0, path=(path,)),)
        run = replace(run, ended=replace(run.ended, evidence=evidence))
    return Outcome(CheckStep(StepPart.RUNG, FORWARD, UDP, 1.0, share=share), run)


CAPACITY = 8 * 1428 * 1000.0
"""A thousand datagrams per second."""


@pytest.mark.parametrize(
    ("outcomes", "is_done"),
    [
        ([], True),
        ([rung(0.5, 500, 500), rung(1.25, 1250, 1250)], False),
        ([rung(0.5, 500, 500), rung(1.25, 1250, 1000)], True),
        ([rung(0.5, 500, 500), rung(1.25, 1250, 1000, told=True)], False),
        ([rung(0.5, 500, 400), rung(1.25, 1250, 1250)], False),
        ([rung(0.5, 500, 500), rung(1.25, 900, 900)], True),
    ],
    ids=["none", "all-arrived", "counts-lost", "times-lost", "lower-lost", "slow-sender"],
)
def test_a_higher_rate_is_tried_while_it_tells_more(outcomes: list[Outcome], is_done: bool) -> None:
    assert MeasuredPath(outcomes).ladder_is_done(FORWARD, CAPACITY) is is_done


def test_a_blocked_transport_carried_nothing_in_the_last_round() -> None:
    step = CheckStep(StepPart.BULK, FORWARD, TCP, 1.0, 1)
    run = run_of(started("tcp"), row({"bytes": 9}, {"bytes": 9}))
    assert run.ended is not None
    made = replace(run.ended, evidence=(RunEvidence(TCP, True, True, 1, 1.0, 72.0),))
    path = MeasuredPath([Outcome(step, replace(run, ended=made))], {(UDP, FORWARD): "silent"})
    evidence = path.evidence(FORWARD)
    assert evidence is not None
    assert [(one.transport, one.bits_per_second) for one in evidence.rounds[0]] == [(TCP, 72.0), (UDP, 0.0)]
    assert path.evidence(REVERSE) is None


def test_udp_goes_by_tcp_and_else_by_kcp() -> None:
    def bulk(name: str, size: int) -> Outcome:
        total = row({"bytes": size, "mtu_bytes": 1400}, {"bytes": size})
        run = run_of(started(name), total, row({}, {"bytes": size}))
        return Outcome(CheckStep(StepPart.BULK, FORWARD, name, 1.0, 1), run)

    both = MeasuredPath([bulk(KCP, 2_000_000), bulk(TCP, 1_000_000)])
    assert both.round_bps(FORWARD, 1) == pytest.approx(8e6 * 1500 / 1448)
    assert MeasuredPath([bulk(KCP, 2_000_000)]).round_bps(FORWARD, 1) == pytest.approx(16e6 * 1428 / 1376)
    assert both.round_bps(FORWARD, 2) is None


def test_without_a_test_nothing_is_known() -> None:
    path = MeasuredPath([Outcome(CheckStep(StepPart.BULK, FORWARD, TCP, 1.0, 1), Run())])
    assert (path.address, path.peer_is_iperfpy, path.rtt_s, path.capacities()) == ("", None, 0.0, {})
    assert (path.datagram_bytes(), path.payload_share(TCP), path.data_s()) == (None, None, 0.0)
    assert path.header_bytes == 28
