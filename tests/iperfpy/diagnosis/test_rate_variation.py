"""A rate that varies is told from the path's own loss, and from arrivals that come together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iperfpy.diagnosis import direction as conclusions
from iperfpy.diagnosis import path_model, rate_variation
from iperfpy.diagnosis.finding import Cause
from tests.iperfpy.diagnosis import synthetic
from tests.iperfpy.diagnosis.synthetic import Path

SWING = (1.3, 0.7, 1.2, 0.8, 1.3, 0.7, 1.0, 0.8, 1.2, 1.0)
SLOW = Path(rate=4e6, queue=80_000, loss=0.1, mean_burst=4.0)


@pytest.mark.parametrize("mean_burst", [4.0, 8.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_slow_rate_that_varies_is_found_beside_bursts_of_loss(mean_burst: float, seed: int) -> None:
    path = replace(SLOW, mean_burst=mean_burst, walk=SWING)
    found = conclusions.conclude(synthetic.direction(path, seed)).findings
    assert {finding.cause for finding in found} == {Cause.RATE_VARIES, Cause.BURSTS, Cause.QUEUE}


@pytest.mark.parametrize(("mean_burst", "seed"), [(1.0, 1), (4.0, 1), (4.0, 2), (12.0, 1), (12.0, 5)])
def test_loss_of_a_constant_rate_is_no_variation(mean_burst: float, seed: int) -> None:
    """A run of 12 losses and more leaves a window with hardly an arrival (seed 5), as an outage does."""
    model = path_model.fit(synthetic.direction(replace(SLOW, mean_burst=mean_burst), seed))
    assert not model.rate.present
    assert model.rate.deviation < 0.05


def test_gaps_that_losses_do_not_explain_count() -> None:
    """Arrivals in unknown lumps have gaps, too, and little time between them, which measures no rate."""
    evidence = synthetic.direction(Path(rate=4e6, queue=60_000, loss=0.005, lump_us=20e3))
    capacity = path_model.fit(evidence).capacity
    rng = np.random.default_rng(1)
    shaken = []
    for one in capacity.overloaded:
        flight = one.stretch.flight
        assert flight is not None
        delay_us = flight.delay_us + rng.random(len(flight.delay_us)) ** 4 * 500
        shaken.append(replace(one, stretch=replace(one.stretch, flight=replace(flight, delay_us=delay_us))))
    variation = rate_variation.measure(replace(capacity, overloaded=tuple(shaken)), 0.0, 0.0)
    assert variation.windows >= rate_variation.FEWEST_WINDOWS
    assert not variation.present


def test_a_stretch_near_a_rate_that_varies_shows_its_loss_unless_the_queue_was_full() -> None:
    """Half of the mean rate and less carries too few datagrams for the length of bursts."""
    evidence = synthetic.direction(replace(SLOW, walk=SWING))
    model = path_model.fit(evidence)
    assert model.rate.present
    slow = [rung.sent for rung in evidence.rungs if rung.offered_bits_per_s < 0.5 * model.rate.mean]
    assert model.loss.sent > 2 * sum(slow)
    assert abs(model.loss.share - SLOW.loss) < 2 * model.loss.error
    quiet = path_model.fit(synthetic.direction(Path(rate=4e6, queue=80_000, walk=SWING)))
    assert quiet.rate.present
    assert quiet.loss.lost == 0
