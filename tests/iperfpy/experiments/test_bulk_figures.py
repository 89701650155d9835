"""From the record of a test to its figures in a comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iperfpy.comparison.comparison_report import SERIES, MeasuredMessages, MeasuredTest
from iperfpy.experiments.bulk_figures import measured_messages, measured_test
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Value
from iperfpy.records import UNANSWERED, Latency, MessageTimes, RunEnded
from iperfpy.store.stored_run import Run
from tests.iperfpy.experiments.test_run_figures import row, run_of, started
from tests.iperfpy.report.meaningful import meaningful_run

UP = Direction.FORWARD


def steady(
    mbits: list[float],
    sender: dict[str, Value] | None = None,
    name: str = "tcp",
    receiver: dict[str, Value] | None = None,
    total_bytes: int = 0,
) -> MeasuredTest:
    """A test of intervals of 0.1 s, in which that many megabits arrive per second. `total_bytes`: it ends
    with this amount."""
    sizes = [round(rate * 1e6 / 80) for rate in mbits]
    parts = [
        row({"rtt_us": 100e3 + at}, {"bytes": size}, at / 10, (at + 1) / 10) for at, size in enumerate(sizes)
    ]
    sent, arrived = {"bytes": sum(sizes), **(sender or {})}, {"bytes": sum(sizes), **(receiver or {})}
    total = row(sent, arrived, 0.0, len(sizes) / 10)
    begun = started(name)
    if total_bytes:
        begun = replace(begun, plan=replace(begun.plan, duration_us=0, total_bytes=total_bytes))
    run = run_of(begun, total, *parts, rtt_us=100e3)
    return measured_test(run, "x", UP, 1, started_s=0.0, steady_from_s=1.0)


def test_the_steady_rate_leaves_the_start_out() -> None:
    found = steady([1.0] * 5 + [10.0] * 5 + [20.0] * 20)
    assert found.steady_bits_per_second == pytest.approx(20e6)
    assert found.steady_from_s == 1.0
    assert found.startup_bytes == round((5 * 1.0 + 5 * 10.0) * 1e6 / 80)
    assert found.packet_bits_per_second == pytest.approx(20e6 * 1500 / 1448)


def test_data_that_waited_behind_a_loss_of_the_start_does_not_raise_the_rate() -> None:
    """Nothing is delivered at the end of the start-up, and all of it at once after it."""
    found = steady([20.0] * 7 + [0.0] * 4 + [50.0, 50.0] + [20.0] * 20)
    assert found.steady_bits_per_second == pytest.approx(20e6, rel=0.02)


def test_segments_count_when_they_arrive_and_not_when_they_are_delivered() -> None:
    """A window of stock KCP is delivered in two lumps, behind losses; its segments arrive evenly."""
    mbits = [20.0] * 10 + [0.0] * 9 + [280.0] + [0.0] * 9 + [200.0]
    sizes = [round(rate * 1e6 / 80) for rate in mbits]
    each = 1_376
    counted: dict[str, Value] = {"segments_received": round(20e6 / 80 / each), "duplicates": 0}
    parts = [
        row({"rtt_us": 100e3}, {"bytes": size, **counted}, at / 10, (at + 1) / 10)
        for at, size in enumerate(sizes)
    ]
    sent: dict[str, Value] = {"bytes": sum(sizes), "mtu_bytes": each + 24}
    total = row(sent, {"bytes": sum(sizes), **counted}, 0.0, 3.0)
    run = run_of(started("kcp"), total, *parts, rtt_us=100e3)
    found = measured_test(run, "x", UP, 1, started_s=0.0, steady_from_s=1.0)
    assert found.steady_bits_per_second == pytest.approx(20e6, rel=0.02)


def test_a_rate_that_changes_in_the_middle_counts_half_and_half() -> None:
    found = steady([1.0] * 10 + [10.0] * 20 + [20.0] * 20)
    assert found.steady_bits_per_second == pytest.approx(15e6, rel=0.05)


def test_a_short_test_has_at_most_two_thirds_of_it_as_start_up() -> None:
    found = steady([1.0] * 6 + [20.0] * 3)
    assert found.steady_from_s == pytest.approx(0.6)
    assert found.steady_bits_per_second == pytest.approx(20e6)


def test_a_test_that_ends_right_after_its_start_up_has_no_steady_rate() -> None:
    """A budget ended it after 0.7 s, and what waited behind a loss was delivered in the last 0.2 s."""
    found = steady([2.0, 8.0, 20.0, 20.0, 15.0, 25.0, 40.0])
    assert found.failed
    assert (found.steady_bits_per_second, found.packet_bits_per_second) == (None, None)
    assert found.steady_from_s == pytest.approx(0.7 * 2 / 3)
    assert found.startup_bytes


def test_the_tail_of_an_amount_has_no_steady_rate() -> None:
    """Nearly all of it arrived in the start-up; the last segment was lost."""
    rates = [100.0] * 10 + [0.0] * 9 + [0.05] * 4
    assert steady(rates, total_bytes=12_500_000).steady_bits_per_second is None
    assert steady([100.0] * 10 + [20.0] * 20, total_bytes=12_500_000).steady_bits_per_second
    # A policer with a large bucket: much of the amount has the rate of the path.
    assert steady([100.0] * 10 + [8.0] * 100, total_bytes=22_500_000).steady_bits_per_second == pytest.approx(
        8e6
    )
    # Without an amount, the path became slower.
    assert steady([100.0] * 10 + [5.0] * 20).steady_bits_per_second == pytest.approx(5e6)


def test_the_start_up_ends_at_90_percent_over_two_round_trips() -> None:
    # One interval of 0.1 s above the mark is a burst; the round-trip time is 0.1 s.
    found = steady([1.0, 19.0, 1.0, 10.0, 19.0, 19.0] + [20.0] * 24)
    assert found.startup_s == pytest.approx(0.6)


def test_nothing_measured_is_a_failure_and_no_rate() -> None:
    found = measured_test(
        run_of(started("tcp"), row({}, {"bytes": 10}, 0.0, 0.02)),
        "x",
        UP,
        1,
        started_s=0.0,
        steady_from_s=1.0,
    )
    assert found.failed
    assert (found.steady_bits_per_second, found.startup_s, found.startup_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "sender", "ratio"),
    [
        ("tcp", {"retransmitted_bytes": 0}, 1500 / 1448),
        ("tcp", {}, None),
        (
            "kcp",
            # 100 segments, 10 of them again; the last ones are not acknowledged, and are no overhead.
            {
                "datagrams_sent": 110,
                "wire_bytes_sent": 110 * 1400,
                "segments_sent": 110,
                "retransmits": 10,
                "mtu_bytes": 1400,
            },
            110 * 1428 / (100 * 1376),
        ),
        ("udp", {"datagrams_sent": 100}, None),
    ],
)
def test_wire_bytes_are_those_of_packets(name: str, sender: dict[str, Value], ratio: float | None) -> None:
    found = steady([20.0] * 30, sender, name)
    assert found.wire_per_payload == (None if ratio is None else pytest.approx(ratio))


def test_shares_come_from_both_ends_where_they_count() -> None:
    sender: dict[str, Value] = {"segments_sent": 200, "retransmits": 10, "spurious": 2}
    found = steady([20.0] * 30, sender, "kcp")
    assert (found.resent_percent, found.in_vain_percent, found.loss_percent) == (5.0, 20.0, None)
    assert steady([20.0] * 30, sender, "kcp", {"duplicates": 3}).in_vain_percent == 30.0
    # Without any retransmission, none of them was in vain.
    assert steady([20.0] * 30, {**sender, "retransmits": 0}, "kcp").in_vain_percent is None


def test_shares_of_a_plug_in_are_found_by_their_meanings() -> None:
    test = measured_test(meaningful_run(), "one", Direction.FORWARD, 1, started_s=0.0, steady_from_s=0.5)
    shares = (test.resent_percent, test.in_vain_percent, test.loss_percent)
    assert shares == pytest.approx((5.0, 100.0, 4.0))


def test_a_test_keeps_loss_retransmissions_and_limits_over_time() -> None:
    test = measured_test(meaningful_run(), "one", Direction.FORWARD, 1, started_s=0.0, steady_from_s=0.5)
    count = len(test.series["end_s"])
    columns = {**test.series, **test.resent_series, **test.limit_series}
    assert set(test.series) == set(SERIES)
    assert {len(values) for values in columns.values()} == {count} == {3}
    # The counters of the whole test, which that of an interval cannot exceed, have as many as one interval.
    assert test.series["loss_percent"] == (4.0, 0.0, 0.0)
    assert test.series["resent_percent"] == test.resent_series["request"] == (5.0,) * 3
    assert test.limit_series == {"credit": (0.2,) * 3, "send window": (0.7,) * 3, "disk": (0.1,) * 3}
    # A transport without such figures has no such columns.
    assert set(steady([20.0] * 30, {}, "udp").series) >= {"end_s", "bits_per_second", "rtt_us"}
    assert "resent_percent" not in steady([20.0] * 30, {}, "udp").series


def test_round_trips_are_those_after_the_start() -> None:
    found = steady([20.0] * 30)
    assert found.rtt_us["p50"] == pytest.approx(100e3 + 19.5)
    assert found.idle_rtt_us == 100e3
    assert len(found.series["end_s"]) == len(found.series["rtt_us"]) == 30


# -- messages


def messages(trips: list[int]) -> Run:
    times = MessageTimes(
        100,
        10_000.0,
        len(trips),
        np.array(trips, dtype=np.uint32),
        wire_bytes=(500, 400),
        there_us=np.zeros(len(trips), dtype=np.int64),
        held_us=np.zeros(len(trips), dtype=np.uint32),
    )
    total = row({}, {"bytes": 100})
    return Run(started("tcp"), (), RunEnded((total,), {}, latency=Latency(), messages=times))


def test_answered_messages_have_a_time() -> None:
    found = measured_messages(messages([100, UNANSWERED, 300]), "x", 2, 1.5)
    assert found == MeasuredMessages("x", 2, 1.5, "", 100, 100, 3, 3, (100, 300), 900)
    assert not found.failed


def test_messages_without_an_answer_failed() -> None:
    found = measured_messages(messages([UNANSWERED, UNANSWERED]), "x", 1, 0.0)
    assert found.failed
    assert found.error == "no message was answered"
    assert measured_messages(Run(), "x", 1, 0.0, "the path died").error == "the path died"
    assert measured_messages(replace(Run()), "x", 1, 0.0).failed
