"""kcp-bbr on paths that change or vary: losses that begin, a rate that falls, a longer way, jitter, lumps.

The whole controller in simulated time, over 5 or 10 Mb/s. Each case measures a stretch after the event.
"""

from __future__ import annotations

import pytest

from iperfpy.protocols.simulator.path import Change, Lumps, Path, SecondWay, bdp_bytes, wire_bytes
from tests.studies.paths.watched import PAYLOAD_SHARE, Stretch, single

RATE, RTT_US = 5e6, 40_000
EVENT_S = 4
SEED = 1


def _link(rate: float = RATE, bdp: float = 2.0, **fields: object) -> Path:
    buffer = bdp_bytes(rate, RTT_US, bdp)
    return Path(rate_bits_per_s=rate, buffer_bytes=buffer, delay_us=RTT_US / 2).with_(**fields)


def _event(**fields: object) -> tuple[Change, ...]:
    return (Change(EVENT_S * 1_000_000, fields),)


def _arrived(stretch: Stretch) -> float:
    """Megabits per second at the receiver, in order or not, as a share of the payload's rate."""
    received = stretch.last.received - stretch.first.received
    return 8 * received / stretch.seconds / RATE / PAYLOAD_SHARE


def _figure(stretch: Stretch, name: str) -> float:
    value = stretch.last.state[name]
    assert isinstance(value, (int, float))
    return value


def test_losses_that_begin_in_the_middle_are_learned_in_about_a_second() -> None:
    """PROBE_RTT shows that the path loses as much when less is sent."""
    watched = single(_link(2 * RATE, changes=_event(loss=0.1)), Path(delay_us=RTT_US / 2), SEED, 7.0)
    second = watched.between(EVENT_S + 1.0, EVENT_S + 1.5)
    assert _figure(second, "noise_percent") == pytest.approx(10.0, abs=3.0)
    assert _arrived(watched.between(EVENT_S + 1.5, 7.0)) > 2 * 0.9 * 0.9


def test_jitter_in_order_leaves_the_rate() -> None:
    """The round-trip time varies by the path's own, and by half of the mean."""
    watched = single(_link(jitter_us=40_000.0), Path(delay_us=RTT_US / 2), SEED, 8.0)
    assert _arrived(watched.between(3.0, 8.0)) > 0.9


def test_a_rate_that_falls_to_a_fifth_leaves_no_lasting_queue() -> None:
    watched = single(
        _link(2 * RATE, 5.0, changes=_event(rate_bits_per_s=0.4 * RATE)), Path(delay_us=RTT_US / 2), SEED, 9.0
    )
    late = watched.between(EVENT_S + 3.0, 9.0)
    assert late.mean_rtt_us < 1.4 * RTT_US
    assert _arrived(late) > 0.9 * 0.4


def test_a_longer_path_is_learned_in_three_seconds() -> None:
    watched = single(_link(changes=_event(delay_us=3 * RTT_US / 2)), Path(delay_us=RTT_US / 2), SEED, 9.0)
    late = watched.between(EVENT_S + 3.0, 9.0)
    assert _figure(late, "min_rtt_us") == pytest.approx(2 * RTT_US, rel=0.05)
    assert _arrived(late) > 0.95


@pytest.mark.parametrize("rate", [1e6, 2e6])
def test_the_initial_window_leaves_no_queue_on_a_slow_path(rate: float) -> None:
    """It is 115 ms long at 1 Mb/s, and every later round trip was as long as the first ones."""
    watched = single(_link(rate, 5.0), Path(delay_us=RTT_US / 2), SEED, 12.0)
    late = watched.between(3.0, 12.0)
    assert late.mean_rtt_us < 1.3 * (RTT_US + 8e6 * wire_bytes(1_400) / rate)
    assert _arrived(late) > 0.93 * rate / RATE


def test_acknowledgements_in_lumps_of_30_ms_leave_the_rate() -> None:
    watched = single(_link(bdp=1.0), Path(delay_us=RTT_US / 2, lumps=Lumps(30e3, 30e3)), SEED, 7.0)
    late = watched.between(2.0, 7.0)
    assert _arrived(late) > 0.95
    assert late.mean_rtt_us < 2 * RTT_US


def test_a_short_queue_and_segments_in_lumps_leave_the_rate() -> None:
    """Losses find any number of segments in flight, and a bound of so few would starve the flow."""
    there = _link(2 * RATE, buffer_bytes=20_000, lumps=Lumps(20e3, 40e3))
    late = single(there, Path(delay_us=RTT_US / 2), SEED, 6.0).between(2.0, 6.0)
    assert _arrived(late) > 2 * 0.9


def test_a_queue_of_two_datagrams_leaves_the_rate() -> None:
    """The receiver acknowledges some datagrams together: more than the BDP must be in flight."""
    there = _link(2 * RATE, buffer_bytes=None, buffer_datagrams=2, delay_us=50e3)
    late = single(there, Path(delay_us=50e3), SEED, 7.0).between(3.0, 7.0)
    assert _arrived(late) > 2 * 0.93


def test_a_delay_that_moves_up_and_down_leaves_the_rate() -> None:
    """Every half second by 5 ms, as a satellite's path does."""
    changes = tuple(
        Change(2_000_000 + at * 500_000, {"delay_us": RTT_US / 2 + at % 4 * 5e3}) for at in range(12)
    )
    watched = single(_link(changes=changes), Path(delay_us=RTT_US / 2), SEED, 8.0)
    late = watched.between(3.0, 8.0)
    assert _arrived(late) > 0.88
    assert late.mean_rtt_us < 1.5 * RTT_US


def test_two_ways_of_different_length_cost_hardly_a_needless_retransmission() -> None:
    """Every second segment takes 60 ms more, beyond srtt. Two seconds are enough to learn it, but a lower
    pace may add the distance of two segments to the displacement."""
    watched = single(_link(second_way=SecondWay(60e3)), Path(delay_us=RTT_US / 2), SEED, 6.0)
    late = watched.between(2.0, 6.0)
    assert late.segments > 1_000
    assert late.spurious <= 0.001 * late.segments
    # The path loses nothing: segments that others overtook are no losses.
    assert _figure(late, "noise_percent") == 0
    assert _arrived(late) > 0.85
