"""Interval samples: differences of counters, polled gauges, and the beginning of the measured time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.metrics import Kind, Metric, Side, Unit, Value
from iperfpy.sampling.sampler import Sampler

METRICS = (
    Metric("rtt_us", "", Unit.MICROSECONDS, Kind.GAUGE, spread=True),
    Metric("retransmits", ""),
    Metric("sent", ""),
    Metric("retrans_percent", "", Unit.PERCENT, Kind.RATIO, numerator="retransmits", denominator="sent"),
    Metric("wait_us", "", Unit.MICROSECONDS, Kind.RATIO, numerator="retransmits", denominator="sent"),
    Metric("phase", "", Unit.TEXT, Kind.GAUGE),
    Metric("duplicates", "", side=Side.RECEIVER),
)


class Channel:
    """A channel with counters that the test sets."""

    def __init__(self, **record: Value) -> None:
        self.record: dict[str, Value] = {"bytes": 0, "retransmits": 0, "sent": 0, **record}

    def counters(self) -> dict[str, Value]:
        return self.record

    def advance(self, **change: int) -> None:
        for key, amount in change.items():
            before = self.record[key]
            assert isinstance(before, int)
            self.record[key] = before + amount


def sampler_of(channel: Channel, side: Side = Side.SENDER, at_us: int = 5_000_000) -> Sampler:
    return Sampler(3, side, channel, METRICS, at_us)


def test_an_interval_is_the_difference_of_two_snapshots() -> None:
    channel = Channel(bytes=700, retransmits=7, sent=70)
    sampler = sampler_of(channel)
    channel.advance(bytes=1000, retransmits=1, sent=4)
    first = sampler.tick(6_000_000)
    channel.advance(bytes=500, retransmits=0, sent=5)
    second = sampler.tick(6_500_000)
    assert (first.stream, first.side, first.start_us, first.end_us) == (3, Side.SENDER, 0, 1_000_000)
    assert (first.bytes, first.values["retransmits"], first.values["retrans_percent"]) == (1000, 1, 25.0)
    assert (second.start_us, second.end_us, second.bytes) == (1_000_000, 1_500_000, 500)
    assert second.bits_per_second == 8000
    assert second.values["retrans_percent"] == 0.0


def test_ticks_and_totals_do_not_affect_each_other() -> None:
    channel = Channel()
    sampler = sampler_of(channel)
    channel.advance(bytes=10, sent=1)
    sampler.tick(6_000_000)
    channel.advance(bytes=20, sent=1)
    assert sampler.total(7_000_000).bytes == 30
    assert sampler.tick(8_000_000).bytes == 20
    assert sampler.total(8_000_000).end_us == 3_000_000


def test_a_total_begins_when_its_stream_could_carry_something() -> None:
    channel = Channel()
    sampler = sampler_of(channel)
    channel.advance(bytes=1000)
    whole = sampler.total(9_000_000, 7_000_000)
    assert (whole.start_us, whole.end_us, whole.bytes) == (2_000_000, 4_000_000, 1000)
    assert whole.bits_per_second == 4000
    assert sampler.total(9_000_000, 4_000_000).start_us == 0
    assert sampler.total(9_000_000, 12_000_000).start_us == 4_000_000
    assert sampler.tick(9_000_000).start_us == 0


def test_time_and_totals_restart_after_the_omitted_period() -> None:
    # The RTT of the omitted period must not be the maximum of the whole.
    channel = Channel(rtt_us=900)
    sampler = sampler_of(channel)
    channel.advance(bytes=10, retransmits=5, sent=10)
    omitted = sampler.tick(6_000_000, omitted=True)
    sampler.restart(6_000_000)
    channel.record["rtt_us"] = 100
    channel.advance(bytes=30, sent=10)
    first = sampler.tick(7_000_000)
    whole = sampler.total(7_000_000)
    assert omitted.omitted
    assert not first.omitted
    assert (first.start_us, first.end_us, first.bytes) == (0, 1_000_000, 30)
    assert (whole.start_us, whole.bytes, whole.values["retransmits"]) == (0, 30, 0)
    assert whole.values["rtt_us_max"] == 100
    assert sampler.omitted == {"retransmits": 5, "sent": 10}


def test_a_ratio_without_a_denominator_is_not_available() -> None:
    sample = sampler_of(Channel()).tick(6_000_000)
    assert sample.values["retrans_percent"] is None
    assert sample.values["retransmits"] == 0


def test_only_percentages_are_multiplied_by_100() -> None:
    channel = Channel()
    sampler = sampler_of(channel)
    channel.advance(retransmits=1, sent=4)
    assert sampler.tick(6_000_000).values["wait_us"] == 0.25


def test_a_counter_that_the_platform_lacks_is_none_and_not_zero() -> None:
    channel = Channel(retransmits=None)
    sampler = sampler_of(channel)
    channel.advance(sent=10)
    values = sampler.tick(6_000_000).values
    assert values["retransmits"] is None
    assert values["retrans_percent"] is None
    assert values["rtt_us"] is None
    assert values["rtt_us_mean"] is None


def test_a_spread_covers_the_polls_of_its_own_interval() -> None:
    channel = Channel(rtt_us=100)
    sampler = sampler_of(channel)
    for rtt in (300, None, 200):
        channel.record["rtt_us"] = rtt
        sampler.poll(5_100_000, channel.counters())
    first = sampler.tick(6_000_000).values
    channel.record["rtt_us"] = 50
    second = sampler.tick(7_000_000).values
    assert (first["rtt_us"], first["rtt_us_min"], first["rtt_us_max"]) == (200, 200, 300)
    assert first["rtt_us_mean"] == pytest.approx(700 / 3)
    assert (second["rtt_us_min"], second["rtt_us_mean"], second["rtt_us_max"]) == (50, 50, 50)


def test_a_total_has_the_95th_percentile_of_all_readings_of_the_measured_time() -> None:
    channel = Channel(rtt_us=900_000)
    sampler = sampler_of(channel)
    sampler.poll(5_100_000, channel.counters())
    sampler.restart(6_000_000)  # the omitted period: its long round-trip times do not count
    for number in range(1, 3_000):
        channel.record["rtt_us"] = number * 10
        sampler.poll(6_000_000 + number, channel.counters())
    channel.record["rtt_us"] = None
    whole = sampler.total(7_000_000)
    # The steps of the distribution are one per cent wide.
    assert whole.values["rtt_us_p95"] == pytest.approx(0.95 * 30_000, rel=0.01)
    assert "rtt_us_p95" not in sampler.tick(7_000_000).values


def test_a_total_without_round_trip_times_has_no_percentile_of_them() -> None:
    assert "rtt_us_p95" not in sampler_of(Channel(rtt_us=None)).total(6_000_000).values
    receiver = sampler_of(Channel(rtt_us=7, duplicates=0), Side.RECEIVER)
    assert "rtt_us_p95" not in receiver.total(6_000_000).values


def test_each_end_reports_its_own_metrics() -> None:
    channel = Channel(duplicates=0, phase="UP")
    channel.advance(duplicates=2)
    sender, receiver = sampler_of(channel), sampler_of(channel, Side.RECEIVER)
    channel.advance(duplicates=3)
    assert "duplicates" not in sender.tick(6_000_000).values
    assert sender.tick(7_000_000).values["phase"] == "UP"
    assert receiver.tick(6_000_000).values == {"duplicates": 3}


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**7)), min_size=1, max_size=20))
def test_intervals_add_up_to_the_total(steps: list[tuple[int, int]]) -> None:
    channel, now_us = Channel(), 1_000
    sampler = sampler_of(channel, at_us=now_us)
    samples = []
    for payload, pause_us in steps:
        now_us += pause_us
        channel.advance(bytes=payload, sent=payload % 7)
        samples.append(sampler.tick(now_us))
    whole = sampler.total(now_us)
    assert sum(sample.bytes for sample in samples) == whole.bytes
    assert sum(sample.end_us - sample.start_us for sample in samples) == whole.end_us
    assert sum(int(sample.values["sent"] or 0) for sample in samples) == whole.values["sent"]


def test_time_begins_with_the_first_data_whose_bytes_count() -> None:
    channel = Channel()
    sampler = sampler_of(channel)
    channel.advance(bytes=100)
    sampler.begin(5_170_000)
    channel.advance(bytes=900)
    sample = sampler.tick(6_170_000)
    assert (sample.start_us, sample.end_us, sample.bytes) == (0, 1_000_000, 1000)
    assert sampler.total(6_170_000).seconds == 1.0


def test_payload_that_waits_behind_a_hole_is_part_of_the_omitted_period() -> None:
    """500 bytes are delivered and 300 wait when that period ends; the hole is filled a second later."""
    channel = Channel(bytes=500)
    sampler = sampler_of(channel, Side.RECEIVER)
    sampler.restart(6_000_000, held_bytes=300)
    waiting = sampler.tick(6_500_000)
    channel.advance(bytes=100 + 300 + 50)
    filled = sampler.tick(7_000_000)
    channel.advance(bytes=70)
    after = sampler.tick(7_500_000)
    assert (waiting.bytes, filled.bytes, after.bytes) == (0, 150, 70)
    assert sampler.total(7_500_000).bytes == 220


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1), st.data())
def test_no_more_is_received_than_arrived_in_the_measured_period(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """In every step some payload arrives, and any part of what is held is delivered."""
    channel, held, arrived = Channel(), 0, 0
    sampler = sampler_of(channel, Side.RECEIVER)
    omitted = data.draw(st.integers(0, len(steps)))
    shown = 0
    for at, (arriving, most) in enumerate(steps):
        if at == omitted:
            sampler.restart(6_000_000, held)
            arrived, shown = 0, 0
        delivered = min(held + arriving, most)
        held += arriving - delivered
        arrived += arriving
        channel.advance(bytes=delivered)
        shown += sampler.tick(6_000_001 + at).bytes
        assert 0 <= shown <= arrived
    assert sampler.total(7_000_000).bytes <= arrived
