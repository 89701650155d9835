"""Detection of a policer in records of one stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from iperfpy.diagnosis import policer
from iperfpy.diagnosis.policer import Code
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock
from iperfpy.protocols.kcp.kcp_evidence import path_evidence
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.simulator import Bulk, Simulation
from iperfpy.protocols.simulator.path_language import parse
from tests.iperfpy.diagnosis.synthetic import Path, stream

POLICED = Path(rate=50e6, police=4e6, bucket=50_000, queue=100_000, rtt_us=40e3)


def test_a_policer_is_found_with_its_rate_and_burst() -> None:
    test = policer.detect(stream(POLICED, 5e6))
    assert test.code is Code.POLICED
    assert test.passed == policer.CHECKS
    assert test.rate_bits_per_s == pytest.approx(4e6, rel=0.02)
    assert test.burst_bytes == pytest.approx(50_000, rel=0.2)


@pytest.mark.parametrize(
    "path",
    [
        Path(rate=4e6, queue=60_000, rtt_us=40e3),
        Path(rate=50e6, queue=100_000, loss=0.01),
        Path(rate=50e6, queue=100_000, loss=0.02),
        Path(rate=50e6, queue=100_000, loss=0.10),
        Path(rate=50e6, queue=100_000, loss=0.03, mean_burst=6.0),
        Path(rate=4e6, queue=200_000, early_drop=0.05),
    ],
    ids=["tail-drop", "1-percent", "2-percent", "10-percent", "bursts", "early-drop"],
)
def test_other_losses_are_no_policer(path: Path) -> None:
    test = policer.detect(stream(path, 5e6))
    assert test.losses >= policer.FEWEST_SAMPLES
    assert not test.policed
    assert policer.sentence(test).startswith(f"{test.losses} losses, no sign of a policer: ")


@pytest.mark.parametrize(("loss", "seconds"), [(0.02, 10.0), (0.08, 3.0), (0.2, 3.0)])
def test_random_losses_at_a_constant_low_rate_are_no_policer(loss: float, seconds: float) -> None:
    """A bucket of a few packets fits a few dozens of random losses well, as often as not."""
    path = Path(rate=100e6, queue=100_000, rtt_us=100e3, loss=loss)
    found = [policer.detect(stream(path, 1e6, seconds=seconds, seed=seed, size=1428)) for seed in range(20)]
    assert max(one.losses for one in found) >= policer.FEWEST_SAMPLES
    assert not any(one.policed for one in found)


def test_too_few_losses_are_named_with_the_number_needed() -> None:
    test = policer.detect(stream(Path(rate=50e6, queue=100_000, loss=0.002), 5e6))
    assert test.code is Code.FEW_LOSSES
    assert policer.sentence(test) == f"{test.losses} losses: too few to tell a policer (15 needed)"


def test_a_queue_of_any_depth_is_no_policer() -> None:
    for queue in (20_000, 40_000, 80_000, 160_000):
        assert not policer.detect(stream(Path(rate=4e6, queue=queue, rtt_us=40e3), 5e6)).policed


@pytest.mark.parametrize("seconds", [2, 4])
@pytest.mark.parametrize("later", [0.7, 0.9])
def test_a_rate_that_falls_is_no_policer(seconds: int, later: float) -> None:
    """Its losses are those of a bucket much deeper than the queue, but they come at the longest delays."""
    path = Path(rate=2.5e6, queue=46_000, rtt_us=33e3, walk=(1.2,) * (10 * seconds) + (later,) * 60)
    test = policer.detect(stream(path, 2.6e6))
    assert test.explained > 0.95
    assert test.code is Code.INFLATED


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_jitter_hides_no_policer(seed: int) -> None:
    path = Path(rate=50e6, police=4e6, bucket=300_000, queue=100_000, rtt_us=30e3, jitter_us=30e3)
    assert policer.detect(stream(path, 5e6, seed=seed)).policed


def test_a_deep_bucket_is_measured_if_losses_follow_its_burst() -> None:
    deep = Path(rate=90e6, police=20e6, bucket=2_500_000, queue=500_000, rtt_us=40e3)
    test = policer.detect(stream(deep, 40e6, seconds=4.0))
    assert test.policed
    assert test.burst_bytes == pytest.approx(2_500_000, rel=0.2)


def test_losses_that_come_in_few_periods_decide_nothing() -> None:
    """All of them might be one overflow of another queue."""
    record = stream(Path(rate=50e6, queue=100_000), 5e6)
    arrived = record.arrived_packets.copy()
    arrived[900:940] //= 2
    test = policer.detect(replace(record, arrived_packets=arrived))
    assert test.code is Code.FEW_LOSSES
    assert "too few periods" in policer.sentence(test)


def _flow(text: str, engine: Callable[[int], Engine], seconds: float = 6.0) -> PathEvidence:
    """Evidence of a sender of bulk data over a path of the simulator."""
    there, back = parse(text)
    simulation = Simulation(1, 1_000.0)
    sender, receiver = engine(1), engine(1)
    simulation.flow(sender, receiver, simulation.link(there), simulation.link(back), Bulk(sender))
    simulation.run(int(seconds * 1e6))
    evidence = path_evidence(sender, simulation.now_us)
    assert evidence is not None
    return evidence


def _stock(conv: int) -> Engine:
    """A window of 128 segments, a burst of which leaves at once."""
    return stock(conv, KcpSettings(sndwnd=128))


def _reno(conv: int) -> Engine:
    return stock(conv, KcpSettings(nc=0))


def test_a_window_that_floods_a_bucket_shows_its_rate_and_burst() -> None:
    evidence = _flow("20M,police=3M/40k,delay=15ms,queue=1bdp", _stock)
    assert evidence.flight is not None
    test = policer.detect(evidence.flight, evidence.min_rtt_us)
    assert test.policed
    assert test.rate_bits_per_s == pytest.approx(3e6, rel=0.02)
    assert test.burst_bytes == pytest.approx(40_000, rel=0.2)


@pytest.mark.parametrize("engine", [_stock, _reno])
@pytest.mark.parametrize(
    "path", ["4M,delay=20ms,queue=0.3bdp", "8M,delay=20ms,queue=8p", "8M,delay=20ms,loss=2"]
)
def test_a_window_that_floods_another_path_shows_no_policer(
    path: str, engine: Callable[[int], Engine]
) -> None:
    """A short queue of a bottleneck that idles between bursts loses as a bucket does, and delays little."""
    evidence = _flow(path, engine, 4.0)
    assert evidence.flight is not None
    assert not policer.detect(evidence.flight, evidence.min_rtt_us).policed


def test_one_way_delays_need_the_round_trip_time() -> None:
    record = stream(POLICED, 5e6)
    one_way = replace(record, delay_us=record.delay_us - 40e3, one_way=True)
    test = policer.detect(one_way)
    assert test.code is Code.NO_DELAY
    assert policer.sentence(test).endswith("without round-trip times, a policer cannot be told from a queue")
    assert policer.detect(one_way, 40e3).policed
