"""A TCP sender's record of its path, from the kernel's counters at some moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iperfpy.protocols.path_evidence import MOST_BINS, PathEvidence
from iperfpy.protocols.tcp.path_samples import MOST_SAMPLES, LoadWaits, PathSamples
from iperfpy.protocols.tcp_info import TcpInfo

RTT_US = 100_000
SECOND = 1_000_000


def _info(segments: int, resent: int = 0, rtt_us: int = RTT_US, **changes: Any) -> TcpInfo:
    return TcpInfo(
        snd_mss=1_000,
        data_segs_out=segments,
        bytes_sent=1_000 * segments,
        total_retrans=resent,
        rtt_us=rtt_us,
        min_rtt_us=90_000,
        options=0,
        **changes,
    )


def _taken(samples: PathSamples, infos: list[TcpInfo], step_us: int = 50_000) -> PathEvidence:
    samples.begin(infos[0], SECOND)
    for number, info in enumerate(infos[:-1]):
        samples.take(info, SECOND + number * step_us)
    evidence = samples.evidence(infos[-1], SECOND + (len(infos) - 1) * step_us)
    assert evidence is not None
    return evidence


def test_counters_between_samples_are_bins_of_packets() -> None:
    evidence = _taken(PathSamples(ipv6=False), [_info(100 + 10 * n) for n in range(41)])
    bins = evidence.flight
    assert bins is not None
    assert not bins.fault()
    assert set(bins.sent_packets.tolist()) == {10}
    assert set(bins.sent_bytes.tolist()) == {10 * 1_040}
    assert (bins.arrived_packets == bins.sent_packets).all()
    assert (bins.delay_us == RTT_US).all()
    # Two seconds, less the last round trip.
    assert 1.8 * SECOND <= len(bins.sent_packets) * bins.width_us <= 1.95 * SECOND
    assert evidence.packet_bytes == 1_040
    assert evidence.min_rtt_us == 90_000
    assert evidence.rtt_us["p50"] == pytest.approx(RTT_US, rel=0.02)


def test_a_retransmission_is_a_loss_a_round_trip_before() -> None:
    infos = [_info(100 + 10 * n, resent=0 if n < 20 else 4) for n in range(41)]
    bins = _taken(PathSamples(ipv6=False), infos).flight
    assert bins is not None
    (at,) = np.flatnonzero(bins.sent_packets != bins.arrived_packets)
    assert bins.sent_packets[at] - bins.arrived_packets[at] == 4
    # The sample at 1.0 s tells it; the one before was at 0.95 s.
    assert at * bins.width_us == 0.95 * SECOND - RTT_US


def test_a_duplicate_at_the_receiver_takes_a_loss_back() -> None:
    infos = [_info(100 + 10 * n, resent=min(n, 3), dsack_dups=3 * (n > 10)) for n in range(41)]
    bins = _taken(PathSamples(ipv6=True), infos).flight
    assert bins is not None
    assert (bins.arrived_packets == bins.sent_packets).all()


def _limits(*, waits_us: int = 0, notsent_bytes: int = 0, busy_us: int = 30_000) -> dict[str, int]:
    """Limits of two seconds in which the load waits for a part of each 50 ms."""
    samples = PathSamples(ipv6=False)
    samples.begin(_info(100, busy_us=0), SECOND)
    for n in range(1, 41):
        now_us = SECOND + 50_000 * n
        if waits_us:
            samples.waits.begin(now_us - waits_us)
            samples.waits.end(now_us)
        # The window and the buffer of the kernel also limited it.
        ends = {"rwnd_limited_us": 5_000 * n, "sndbuf_limited_us": 1_000 * n}
        waiting = {"notsent_bytes": notsent_bytes if n > 10 else 0}
        samples.take(_info(100 + 10 * n, busy_us=busy_us * n, **ends, **waiting), now_us)
    evidence = samples.evidence(_info(500, busy_us=40 * busy_us, **ends, **waiting), 3 * SECOND)
    assert evidence is not None
    return dict(evidence.limited_us)


ENDS = {"receive-window": 200_000, "send-buffer": 40_000}


def test_time_without_data_in_flight_is_the_loads_or_the_processors() -> None:
    both = {"congestion-window": 960_000}
    assert _limits(waits_us=20_000) == {**ENDS, **both, "application": 800_000}
    assert _limits() == {**ENDS, **both, "processor": 800_000}
    assert _limits(waits_us=5_000) == {**ENDS, **both, "application": 200_000, "processor": 600_000}


def test_a_load_that_waits_limits_a_connection_that_is_always_busy() -> None:
    """Congestion control spreads each block until the next one comes."""
    limits = _limits(waits_us=40_000, busy_us=50_000)
    assert limits == {**ENDS, "application": 1_600_000, "congestion-window": 160_000}


def test_a_load_that_waits_while_the_kernel_keeps_its_data_limits_nothing() -> None:
    """Behind a slow path the send buffer takes more for a while."""
    limits = _limits(waits_us=40_000, busy_us=50_000, notsent_bytes=100_000)
    assert limits == {**ENDS, "application": 400_000, "congestion-window": 1_360_000}


def test_a_wait_that_lasts_counts_up_to_now() -> None:
    waits = LoadWaits()
    waits.begin(100)
    waits.begin(300)
    assert (waits.total_us(50), waits.total_us(400)) == (0, 300)
    waits.end(500)
    waits.end(900)
    assert waits.total_us(1_000) == 400


def test_the_time_before_the_load_is_no_limit_of_the_sender() -> None:
    """The connection has carried its opening: then it waits for the peer to begin the test."""
    samples = PathSamples(ipv6=False)
    samples.take(_info(1, busy_us=0), 0)
    infos = [_info(100 + 10 * n, busy_us=50_000 * n) for n in range(41)]
    assert dict(_taken(samples, infos).limited_us) == {"congestion-window": 2_000_000}


def test_segments_found_lost_count_before_they_are_sent_again() -> None:
    """In a recovery of many losses the retransmissions leave up to round trips later."""
    at = [_info(100 + 10 * n, resent=0 if n < 25 else 4, lost=4 * (20 <= n < 25)) for n in range(41)]
    bins = _taken(PathSamples(ipv6=False), at).flight
    assert bins is not None
    (lost_at,) = np.flatnonzero(bins.sent_packets != bins.arrived_packets)
    assert lost_at * bins.width_us == 0.95 * SECOND - RTT_US
    # Those that are under way again are counted once.
    assert _info(100, resent=4, lost=4, retrans_out=4).found_lost == 4


def test_the_largest_window_of_the_receiver_is_kept() -> None:
    infos = [_info(100 + 10 * n, snd_wnd=(0, 80_000, 20_000)[n % 3]) for n in range(41)]
    assert _taken(PathSamples(ipv6=False), infos).extra["peer_window_bytes"] == 80_000


@pytest.mark.parametrize(
    ("windows", "limited", "kept"),
    [
        # It grows while it limits, and is large when it no longer does.
        ((60_000, 100_000, 4_000_000), (0, 10_000, 40_000), 90_000),
        # The receiver's program does not read: it was large, and is closed.
        ((4_000_000, 4_000_000, 0), (0, 0, 40_000), 4_000_000),
        # It limited only before the load.
        ((60_000, 80_000, 80_000), (5_000, 5_000, 5_000), 80_000),
    ],
)
def test_the_window_that_limited_is_the_largest_one_until_then(
    windows: tuple[int, ...], limited: tuple[int, ...], kept: int
) -> None:
    infos = [
        _info(100 + 10 * n, snd_wnd=window, rwnd_limited_us=us)
        for n, (window, us) in enumerate(zip(windows, limited, strict=True))
    ]
    assert _taken(PathSamples(ipv6=False), infos).extra["peer_window_bytes"] == kept


def test_a_long_test_has_wider_bins_and_as_many_samples_as_a_short_one() -> None:
    samples = PathSamples(ipv6=False)
    infos = [_info(100 + 10 * n) for n in range(3 * MOST_SAMPLES)]
    bins = _taken(samples, infos).flight
    assert bins is not None
    assert len(bins.sent_packets) < MOST_BINS
    assert len(samples._samples) <= MOST_SAMPLES
    assert int(bins.sent_packets.sum()) == pytest.approx(10 * len(infos), rel=0.01)


@pytest.mark.parametrize("infos", [[TcpInfo()], [_info(0)], [TcpInfo(data_segs_out=9)]])
def test_a_kernel_that_does_not_tell_gives_no_evidence(infos: list[TcpInfo]) -> None:
    samples = PathSamples(ipv6=False)
    for info in infos:
        samples.take(info, SECOND)
    assert samples.evidence(infos[-1], 2 * SECOND) is None


def test_two_samples_make_no_bins() -> None:
    evidence = _taken(PathSamples(ipv6=False), [_info(100), _info(110)])
    assert evidence.flight is None
    assert evidence.min_rtt_us == 90_000
