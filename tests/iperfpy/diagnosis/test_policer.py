"""The policer test of Flach et al. on records of one stream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.diagnosis import policer
from iperfpy.diagnosis.policer import Code
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
    assert policer.sentence(test).startswith("no policer: ")


def test_too_few_losses_are_named_with_the_number_needed() -> None:
    test = policer.detect(stream(Path(rate=50e6, queue=100_000, loss=0.002), 5e6))
    assert test.code is Code.FEW_LOSSES
    assert policer.sentence(test) == f"{test.losses} losses: too few to tell a policer (15 needed)"


def test_a_queue_of_any_depth_is_no_policer() -> None:
    for queue in (20_000, 40_000, 80_000, 160_000):
        assert not policer.detect(stream(Path(rate=4e6, queue=queue, rtt_us=40e3), 5e6)).policed


def test_a_bucket_that_lasts_for_more_than_2_mb_is_not_judged() -> None:
    deep = Path(rate=90e6, police=20e6, bucket=2_500_000, queue=500_000, rtt_us=40e3)
    assert policer.detect(stream(deep, 40e6, seconds=4.0)).code is Code.LATE_LOSS


def test_one_way_delays_need_the_round_trip_time() -> None:
    record = stream(POLICED, 5e6)
    one_way = replace(record, delay_us=record.delay_us - 40e3, one_way=True)
    assert policer.detect(one_way).code is Code.NO_DELAY
    assert policer.detect(one_way, 40e3).policed
