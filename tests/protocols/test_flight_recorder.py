"""Packets by the time of departure: sums per bin, whatever the shape of a batch, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.flight_recorder import FlightRecorder, with_fewer_bins
from iperfpy.protocols.log_histogram import LogHistogram
from iperfpy.protocols.path_evidence import MOST_BINS, FlightBins


def _bins(recorder: FlightRecorder, until_us: float = 1e15, header_bytes: int = 0) -> FlightBins:
    bins = recorder.bins(until_us, header_bytes)
    assert bins is not None
    return bins


def test_a_packet_counts_in_the_bin_in_which_it_left() -> None:
    recorder = FlightRecorder()
    for stamp_us in (5_000, 5_999, 6_000, 8_500):
        recorder.sent(stamp_us, 2, 200)
    assert recorder.arrived_together(5_000, 5_999, 3, 300, 70.0)
    recorder.arrived(np.array([6_000, 8_500]), 100, np.array([80.0, np.nan]))
    bins = _bins(recorder, header_bytes=28)
    assert bins.sent_packets.tolist() == [4, 2, 0, 2]
    assert bins.sent_bytes.tolist() == [512, 256, 0, 256]
    assert bins.arrived_packets.tolist() == [3, 1, 0, 1]
    assert bins.arrived_bytes.tolist() == [384, 128, 0, 128]
    assert bins.delay_us.tolist()[:2] == [70.0, 80.0]
    assert np.isnan(bins.delay_us[2:]).all()


def test_packets_of_two_bins_are_not_counted_together() -> None:
    recorder = FlightRecorder()
    recorder.sent(0, 1, 10)
    recorder.sent(1_000, 1, 10)
    assert not recorder.arrived_together(999, 1_000, 2, 20, None)
    assert _bins(recorder).arrived_packets.tolist() == [0, 0]


def test_a_stamp_that_was_never_sent_is_ignored() -> None:
    recorder = FlightRecorder()
    recorder.sent(1_000_000, 1, 10)
    assert recorder.arrived_together(7, 7, 1, 10, 1.0)
    recorder.arrived(np.array([-5, 1_000_000, 1 << 40]), np.array([1, 10, 1]), np.array([1.0, 2.0, 3.0]))
    recorder.arrived(np.array([-5]), 1, 2.0)
    bins = _bins(recorder)
    assert (bins.arrived_packets.tolist(), bins.arrived_bytes.tolist()) == ([1], [10])
    assert bins.delay_us.tolist() == [2.0]


@pytest.mark.parametrize("seconds", [1, 20, 900])
def test_the_sums_are_those_of_each_packet_alone(seconds: int) -> None:
    """Any mixture of batches, over one and over many doublings of the width."""
    random = np.random.default_rng(seconds)
    stamps_us = np.sort(random.integers(0, seconds * 1_000_000, 5_000)) + 123
    delays_us = random.uniform(10, 50, 5_000)
    recorder = FlightRecorder()
    done = 0
    while done < len(stamps_us):
        step = int(random.integers(1, 30))
        part, delays = stamps_us[done : done + step], delays_us[done : done + step]
        for stamp_us in part.tolist():
            recorder.sent(stamp_us, 1, 40)
        mean_us = float(delays.mean())
        if not recorder.arrived_together(int(part[0]), int(part[-1]), len(part), 40 * len(part), mean_us):
            recorder.arrived(part, 40, delays)
        done += step
    bins = _bins(recorder)
    assert len(bins.sent_packets) <= MOST_BINS
    at = (stamps_us - stamps_us[0]) // bins.width_us
    expected = np.bincount(at)
    assert (bins.sent_packets == expected).all()
    assert (bins.arrived_packets == expected).all()
    assert (bins.arrived_bytes == 40 * expected).all()
    whole_us = np.nansum(bins.delay_us * bins.arrived_packets)
    assert whole_us == pytest.approx(delays_us.sum(), rel=1e-6)
    assert bins.width_us >= seconds * 1_000_000 / (MOST_BINS + 1)


def test_departures_of_an_array_are_counted_alike() -> None:
    one, other = FlightRecorder(), FlightRecorder(one_way=True)
    stamps_us = np.array([0, 10, 4_000, 3_000_000, 30_000_000])
    for stamp_us in stamps_us.tolist():
        one.sent(stamp_us, 3, 300)
    other.sent_at(stamps_us[:3], np.full(3, 3), np.full(3, 300))
    other.sent_at(stamps_us[3:][::-1], np.full(2, 3), np.full(2, 300))
    other.arrived(stamps_us, 100, np.array([7.0, 7.0, 9.0, 6.0, 5.0]))
    assert (_bins(one).sent_packets == _bins(other).sent_packets).all()
    assert (_bins(one).sent_bytes == _bins(other).sent_bytes).all()
    delay_us = _bins(other).delay_us
    assert delay_us[~np.isnan(delay_us)].min() == 0
    assert np.nanmax(delay_us) == pytest.approx(8 - 5, abs=1)


def test_a_long_silence_costs_no_memory() -> None:
    recorder = FlightRecorder()
    recorder.sent(0, 1, 10)
    recorder.sent(40 * 365 * 86_400 * 1_000_000, 1, 10)
    bins = _bins(recorder, 1e18)
    assert len(bins.sent_packets) <= MOST_BINS
    assert int(bins.sent_packets.sum()) == 2


def test_what_left_last_can_be_left_out() -> None:
    recorder = FlightRecorder()
    for stamp_us in range(0, 10_000, 500):
        recorder.sent(stamp_us, 1, 10)
    assert len(_bins(recorder, 4_500).sent_packets) == 4
    assert recorder.bins(999) is None
    assert FlightRecorder().bins(1e9) is None


def test_bins_are_merged_in_pairs() -> None:
    nan = float("nan")
    counts = np.array([1, 2, 3, 4, 5])
    delays_us = np.array([10.0, 40.0, nan, 8.0, nan])
    bins = FlightBins(0, 1_000, counts, counts, counts, counts, delays_us)
    merged = with_fewer_bins(bins)
    assert merged.width_us == 2_000
    assert merged.sent_packets.tolist() == [3, 7, 5]
    assert merged.delay_us[:2].tolist() == [30.0, 8.0]
    assert np.isnan(merged.delay_us[2])


def test_percentiles_are_those_of_the_samples_to_one_per_cent() -> None:
    random = np.random.default_rng(1)
    samples = random.lognormal(10, 0.7, 20_000)
    one, other = LogHistogram(), LogHistogram()
    one.add_all(samples)
    for sample in samples.tolist():
        other.add(sample)
    assert one.record() == other.record()
    for percent in (5, 50, 95):
        assert one.percentile(percent) == pytest.approx(np.percentile(samples, percent), rel=0.02)
    assert one.record()["max"] == samples.max()
    assert one.percentile(0) == pytest.approx(samples.min(), rel=0.02)


def test_a_histogram_takes_any_duration() -> None:
    one = LogHistogram()
    assert (one.record(), one.percentile(50)) == ({}, 0.0)
    one.add(0.0)
    one.add(1e15, 3)
    one.add_all(np.array([1e15, 0.5]))
    assert (one.count, one.most_us) == (6, 1e15)
    assert one.percentile(1) <= 1.01


def test_an_answer_that_comes_before_its_stamp_took_no_time() -> None:
    """A stamp may run ahead of the clock by microseconds."""
    together, alone = FlightRecorder(), FlightRecorder()
    for recorder in (together, alone):
        recorder.sent(1_000, 2, 200)
    assert together.arrived_together(1_000, 1_000, 2, 200, -3.0)
    alone.arrived(np.full(2, 1_000), 100, np.array([-3, -3]))
    for recorder in (together, alone):
        bins = _bins(recorder)
        assert bins.delay_us.tolist() == [0.0]
        assert bins.fault() == ""
