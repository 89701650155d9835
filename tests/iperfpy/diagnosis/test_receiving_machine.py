"""Datagrams that the receiver's kernel dropped had arrived: they are no evidence against the path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iperfpy.diagnosis.direction import conclude
from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, Rung
from iperfpy.diagnosis.finding import Cause
from iperfpy.diagnosis.stretches import cut, stretches
from iperfpy.plan import Direction
from iperfpy.protocols.path_evidence import FlightBins

RTT = {"p5": 40e3, "p50": 40e3, "p95": 40.2e3, "max": 40.5e3}


def rung(rate: float, arriving: float, drops: int | None) -> Rung:
    """A second of datagrams of which `arriving` bits arrived: all until the burst of a bucket is over."""
    per_bin = round(rate / 8 / 1000 / 1000)
    sent = np.full(1000, per_bin, np.int64)
    arrived = sent.copy()
    if arriving < rate:
        arrived[200:] = round(arriving / 8 / 1000 / 1000)
    flight = FlightBins(0, 1000, sent * 1000, arrived * 1000, sent, arrived, np.full(1000, 100.0), True)
    missing = int((sent - arrived).sum())
    lost = missing if drops is None else drops
    return Rung(
        rate,
        1000,
        1.0,
        int(sent.sum()),
        int(arrived.sum()),
        RTT,
        flight,
        kernel_drops=lost if drops else 0,
        loss_runs=missing,
        lost_in_runs=missing,
    )


def evidence(drops: int | None) -> DirectionEvidence:
    rungs = [rung(rate, min(rate, 240e6), drops) for rate in (40e6, 80e6, 160e6, 200e6, 320e6, 400e6)]
    return DirectionEvidence(Direction.REVERSE, IdlePath(RTT, echoes=200), tuple(rungs))


def test_losses_on_the_path_are_a_policer() -> None:
    causes = {finding.cause for finding in conclude(evidence(0)).findings}
    assert Cause.POLICER in causes
    assert Cause.PROCESSOR not in causes


def test_the_same_losses_in_the_kernel_are_the_receiving_machine() -> None:
    whole = evidence(0)
    dropped = [replace(one, kernel_drops=one.sent - one.arrived) for one in whole.rungs]
    found = conclude(replace(whole, rungs=tuple(dropped)))
    assert found.findings[0].cause is Cause.PROCESSOR
    assert "320 Mbit/s" in found.findings[0].sentence
    assert Cause.POLICER not in {finding.cause for finding in found.findings}
    assert found.capacity_bits_per_s is None
    assert max(one.offered for one in stretches(replace(whole, rungs=tuple(dropped)))) == 200e6


@pytest.mark.parametrize(("drops", "is_cut"), [(None, False), (0, False), (10, False), (60_000, True)])
def test_a_rung_is_cut_if_most_losses_were_in_the_kernel(drops: int | None, is_cut: bool) -> None:
    one = replace(rung(400e6, 240e6, 0), kernel_drops=drops)
    assert cut(one) is is_cut


def test_a_rate_at_which_path_and_kernel_both_lose_is_not_that_of_the_path() -> None:
    """The path lost more than the kernel dropped, but what arrived did so at the rate of the kernel."""
    both = replace(rung(400e6, 100e6, 0), kernel_drops=10_000)
    assert both.sent - both.arrived > 2 * 10_000
    assert cut(both)
    few = replace(both, kernel_drops=100)
    assert not cut(few)


def test_a_slow_rung_is_cut_by_a_few_dozen_drops() -> None:
    slow = replace(rung(400e6, 400e6, 0), sent=360, arrived=280, kernel_drops=75)
    assert cut(slow)
    assert not cut(replace(slow, arrived=340, kernel_drops=20))
