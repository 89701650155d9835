"""The RTT of reports is that of all acknowledged segments, and retransmissions in vain are all found."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.kcp.kcp_metrics import record
from iperfpy.protocols.kcp.retransmission_log import RetransmissionLog
from iperfpy.protocols.kcp.rtt_estimator import MeanRtt
from tests.protocols.kcp.ends import Fixed, Half

START_US, GAP_US, RTT_US = 1_000_000, 1_000, 5_000
LUMP = 20


def _report(half: Half, now_us: int) -> int:
    value = record(half.engine, now_us)["rtt_us"]
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("each", [True, False], ids=["an ACK each", "cumulative ACKs"])
def test_acknowledgements_in_lumps_count_all_their_segments(each: bool) -> None:
    """A link holds acknowledgements back and delivers twenty at once: the newest waited least."""
    half = Half()
    for lump in range(5):
        first, began_us = lump * LUMP, START_US + lump * LUMP * GAP_US
        for number in range(LUMP):
            half.send(1, began_us + number * GAP_US)
        now_us = began_us + (LUMP - 1) * GAP_US + RTT_US
        numbers = range(first, first + LUMP) if each else (first + LUMP - 1,)
        half.acked(now_us, *numbers, una=first + LUMP)
    mean_us = RTT_US + (LUMP - 1) * GAP_US / 2
    assert _report(half, now_us) == pytest.approx(mean_us, rel=0.01)
    assert half.engine.rtt.srtt_us == pytest.approx(RTT_US, rel=0.01)  # the newest stamps


@pytest.mark.parametrize("each", [True, False], ids=["an ACK each", "cumulative ACKs"])
def test_congestion_control_gets_the_spread_of_an_acknowledgement(each: bool) -> None:
    control = Fixed()
    half = Half(control=control)
    for number in range(LUMP):
        half.send(1, START_US + number * GAP_US)
    now_us = START_US + (LUMP - 1) * GAP_US + RTT_US
    half.acked(now_us, *(range(LUMP) if each else (LUMP - 1,)), una=LUMP)
    (ack,) = control.acks
    assert (ack.rtt_us, ack.rtt_min_us, ack.rtt_samples) == (RTT_US, RTT_US, LUMP)
    assert ack.rtt_mean_us == RTT_US + (LUMP - 1) * GAP_US / 2


def test_a_cumulative_ack_of_retransmissions_gives_no_sample() -> None:
    """It does not tell which transmission arrived (Karn's rule). Segment 2 was sent once."""
    control = Fixed()
    half = Half(control=control)
    half.send(3, START_US)
    half.engine.sending.state.transmissions[:2] = 2
    half.counts.fast = half.counts.retransmitted = 2
    half.acked(START_US + RTT_US, 2, una=3)
    (ack,) = control.acks
    assert (ack.acked, ack.rtt_samples, ack.rtt_mean_us) == (3, 1, RTT_US)


def test_segments_of_the_longer_way_count() -> None:
    """Every second segment takes 80 ms instead of 20: each is acknowledged when it arrives, out of order."""
    half, short_us, long_us = Half(), 20_000, 80_000
    arrivals = sorted(
        (START_US + number * GAP_US + (long_us if number % 2 else short_us), number) for number in range(400)
    )
    sent = 0
    seen: set[int] = set()
    for now_us, number in arrivals:
        while sent < 400 and START_US + sent * GAP_US <= now_us:
            half.write(1, START_US + sent * GAP_US)
            half.transmit(START_US + sent * GAP_US)
            sent += 1
        seen.add(number)
        una = next(each for each in range(401) if each not in seen)
        half.acked(now_us, number, una=una, copy=0)
        if 100 * GAP_US < now_us - START_US < 300 * GAP_US:
            assert short_us < _report(half, now_us) < long_us
    assert _report(half, now_us) == pytest.approx(long_us, rel=0.05)  # the last ones all took the longer way


def test_the_mean_does_not_depend_on_the_size_of_the_lumps() -> None:
    one, other = MeanRtt(), MeanRtt()
    for _ in range(8):
        one.update(10_000, 1)
    other.update(10_000, 8)
    for _ in range(8):
        one.update(30_000, 1)
    other.update(30_000, 8)
    assert one.value_us == pytest.approx(other.value_us)


def test_a_needless_copy_is_found_after_its_row_was_used_again() -> None:
    """The acknowledgement of the original comes late: una has passed, and the row holds another segment."""
    log, one = RetransmissionLog(), np.array([5])
    log.sent_again(one, 2_000, 64)
    assert len(log.spurious(np.array([5]), np.array([2_000]))[0]) == 0  # the copy itself
    log.sent_again(np.array([5 + 64, 5 + 128]), 3_000, 64)  # later segments in the same row of a window of 64
    assert log.spurious(np.array([5, 5]), np.array([1_000, 1_000]))[0].tolist() == [5]
    assert len(log.spurious(one, np.array([1_000]))[0]) == 0  # a repeated ACK


@pytest.mark.parametrize("together", [True, False])
def test_a_copy_that_the_path_made_is_not_needless(together: bool) -> None:
    """The retransmission alone arrived, twice; the receiver says so of the second."""
    log, numbers, echoes_us = RetransmissionLog(), np.array([5, 5]), np.array([2_000, 2_000])
    log.sent_again(np.array([5]), 2_000, 64)
    repeated = np.array([False, True])
    cuts = [slice(0, 2)] if together else [slice(0, 1), slice(1, 2)]
    found = [log.spurious(numbers[cut], echoes_us[cut], repeated[cut])[0].tolist() for cut in cuts]
    assert not any(found)


def test_a_copy_counts_if_the_receiver_had_the_segment_already() -> None:
    """No acknowledgement of the original ever came. It counts once."""
    log, number, echo_us = RetransmissionLog(), np.array([5]), np.array([2_000])
    log.sent_again(number, 2_000, 64)
    found = [log.spurious(number, echo_us, np.array([True])) for _ in range(2)]
    assert [(numbers.tolist(), echoes.tolist()) for numbers, echoes in found] == [([5], [1_999]), ([], [])]


def test_every_needless_copy_of_a_segment_counts() -> None:
    log, one = RetransmissionLog(), np.array([5])
    log.sent_again(one, 2_000, 64)
    log.sent_again(one, 3_000, 64)
    found = [len(log.spurious(one, np.array([stamp_us]))[0]) for stamp_us in (1_000, 2_000, 3_000)]
    assert found == [1, 1, 0]


def test_a_log_that_grows_forgets_nothing_and_follows_the_window() -> None:
    """Its memory is that of the window in use: a peer that asks for the widest one gets none for it."""
    log, one = RetransmissionLog(), np.array([5])
    assert len(log._numbers) == 0
    log.sent_again(one, 2_000, 64)
    log.sent_again(np.array([700]), 3_000, 512)
    assert len(log._numbers) == 4 * 512
    assert log.spurious(np.array([5, 700]), np.array([1_000, 1_000]))[0].tolist() == [5, 700]
    log.release()
    assert len(log._numbers) == 0
    assert len(log.spurious(one, np.array([1_500]))[0]) == 0
