"""Times at which acknowledgements leave, and their share of the bytes."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp.ack_timing import HEADERS_BYTES, LOSING_US, MOST_CREDIT, UNKNOWN_US, AckTiming

MTU, ACK_BYTES = 1_400, 72
INTERVAL_US = 8_000


def _timing(*, interval_us: int = INTERVAL_US, share: float = 0.02) -> AckTiming:
    timing = AckTiming(share, enough=4, spacing=0.5, asks=False)
    timing.interval_us = interval_us
    return timing


def _spend_credit(timing: AckTiming, now_us: int) -> None:
    timing.left(1, 3 * MOST_CREDIT, now_us)


def test_the_first_acknowledgement_leaves_at_once() -> None:
    timing = _timing()
    timing.heard(1, MTU)
    assert timing.due_us() == 0


def test_news_leave_at_once() -> None:
    timing = _timing()
    timing.left(1, ACK_BYTES, 100_000)
    timing.heard(1, MTU)
    assert timing.due_us() == 100_000 + INTERVAL_US
    timing.report()
    assert timing.due_us() <= 100_000


def test_enough_datagrams_leave_after_half_the_interval() -> None:
    timing = _timing()
    timing.left(1, ACK_BYTES, 100_000)
    timing.heard(3, 3 * MTU)
    assert timing.due_us() == 100_000 + INTERVAL_US
    timing.heard(1, MTU)
    assert timing.due_us() == 100_000 + INTERVAL_US // 2


@pytest.mark.parametrize("news", [True, False])
def test_without_credit_only_the_interval_counts(news: bool) -> None:
    timing = _timing()
    _spend_credit(timing, 100_000)
    timing.heard(4, 4 * MTU)
    if news:
        timing.report()
    assert timing.due_us() == 100_000 + INTERVAL_US


@pytest.mark.parametrize("every", [1, 2, 7, 50])
def test_news_all_the_time_take_no_more_than_the_share(every: int) -> None:
    """An interval that never ends: each acknowledgement is paid for. The first ones are free."""
    timing = _timing(interval_us=1 << 40)
    now_us = there = back = 0
    for number in range(20_000):
        now_us += 100
        timing.heard(1, MTU)
        there += MTU + HEADERS_BYTES
        if number % every == 0:
            timing.report()
        if timing.due_us() <= now_us:
            timing.left(1, ACK_BYTES, now_us)
            back += ACK_BYTES + HEADERS_BYTES
    assert back <= 0.02 * there + MOST_CREDIT + ACK_BYTES + HEADERS_BYTES
    assert back >= min(0.019 * there, 20_000 / every * (ACK_BYTES + HEADERS_BYTES))


def test_a_slow_stream_gets_one_acknowledgement_per_datagram_and_interval() -> None:
    timing, leaving = _timing(), []
    for number in range(2_000):
        now_us = number * INTERVAL_US
        timing.heard(1, MTU)
        if timing.due_us() <= now_us:
            leaving.append(now_us)
            timing.left(1, ACK_BYTES, now_us)
    assert len(leaving) == 2_000


def test_acknowledgements_are_being_lost_for_a_while_after_a_repeat() -> None:
    timing = _timing()
    assert not timing.is_losing(0)
    timing.repeated(5_000)
    assert timing.is_losing(5_000 + LOSING_US - 1)
    assert not timing.is_losing(5_000 + LOSING_US)


def test_the_round_trip_time_is_asked_for_a_few_times() -> None:
    timing = AckTiming(0.03, enough=2, spacing=0.0, asks=True)
    assert timing.interval_us == UNKNOWN_US
    now_us, asked, answers_us = 0, [], iter((90_000, 80_000, 85_000, 80_000))
    for _ in range(100):
        if timing.wants_to_ask(now_us):
            asked.append(now_us)
            timing.told(now_us + next(answers_us))
        now_us += 200_000
    assert len(asked) == 4
    assert timing.interval_us == 10_000


def test_an_answer_to_nothing_tells_nothing() -> None:
    timing = AckTiming(0.03, enough=2, spacing=0.0, asks=True)
    timing.told(50_000)
    assert timing.interval_us == UNKNOWN_US
    assert not _timing().wants_to_ask(0)
