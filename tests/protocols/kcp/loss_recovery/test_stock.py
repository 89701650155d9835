"""Stock recovery by kcp-go's rules, one at a time."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import Int64s
from tests.protocols.kcp.ends import Fixed, Half, ack, batch, stock_recovery

TICK_US = 10_000
START_US = 1_000_000


def _half(control: Fixed | None = None, tuning: dict[str, Any] | None = None, **options: Any) -> Half:
    half = Half(stock_recovery(interval_us=TICK_US, **(tuning or {})), control, nagle=False, **options)
    half.transmit(START_US - 1)  # ticks are counted from here
    return half


def _causes(half: Half) -> tuple[int, int, int]:
    """Lost, early, fast."""
    return half.counts.lost, half.counts.early, half.counts.fast


# -------------------------------------------------------------------------------------- fast


@pytest.mark.parametrize("resend", [1, 2, 3])
def test_a_fast_resend_follows_the_given_number_of_passing_acks(resend: int) -> None:
    half = _half(tuning={"resend": resend})
    half.send(10, START_US)
    half.write(100, START_US)  # there is always something new: no early retransmit
    for passing in range(1, resend):
        half.acked(START_US + 50, passing)
        half.engine.peer_window = 10 + passing
        assert 0 not in half.transmit(START_US + 50)
    half.acked(START_US + 60, resend)
    assert half.transmit(START_US + 60)[0] == 0
    assert half.counts.fast == 1
    assert half.engine.sending.state.transmissions[0] == 2


def test_every_segment_passed_counts_every_ack() -> None:
    half = _half()
    half.send(6, START_US)
    half.acked(START_US + 50, 3, 5)
    assert half.engine.sending.state.fastack[:6].tolist() == [2, 2, 2, 0, 1, 0]
    assert [numbers for _, numbers in half.wait(START_US + TICK_US + 50)] == [[0, 1, 2, 4]]
    assert _causes(half) == (0, 1, 3)


def test_a_repeated_ack_counts_too() -> None:
    half = _half(tuning={"resend": 3})
    half.send(6, START_US)
    for turn in range(3):
        half.acked(START_US + 50 + turn, 3)
    assert half.engine.sending.state.fastack[:3].tolist() == [3, 3, 3]
    assert [numbers for _, numbers in half.wait(START_US + TICK_US + 50)] == [[0, 1, 2]]
    assert _causes(half) == (0, 0, 3)


def test_a_passed_segment_waits_for_a_flush() -> None:
    """kcp-go flushes at ticks and when una moves; an ACK above a hole only counts."""
    half = _half()
    half.send(10, START_US)
    half.acked(START_US + 50, 2, 3)
    assert half.transmit(START_US + 50) == []
    half.acked(START_US + 60, 0, una=1)
    assert half.transmit(START_US + 60) == [1]
    assert _causes(half) == (0, 0, 1)


def test_resend_0_disables_fast_resends() -> None:
    half = _half(tuning={"resend": 0})
    half.send(20, START_US)
    half.acked(START_US + 50, *range(1, 20))
    assert half.transmit(START_US + 50) == []
    assert half.counts.fast == 0


def test_an_ack_for_an_earlier_transmission_does_not_pass_a_retransmission() -> None:
    """kcp-go counts an ACK only for segments stamped no later than its echo."""
    half = _half()
    half.send(10, START_US)
    half.acked(START_US + 50, 0, 2, 3, una=1)
    assert half.transmit(START_US + 50) == [1]
    half.acked(START_US + 60, 4, 5, 6, 7, una=1)
    assert half.engine.sending.state.fastack[1] == 0
    assert half.wait(START_US + TICK_US + 60) == []
    half.send(2, START_US + TICK_US + 70)
    half.acked(START_US + TICK_US + 120, 10, 11, una=1)
    assert [numbers for _, numbers in half.wait(START_US + 2 * TICK_US + 60)] == [[1, 8, 9]]
    assert _causes(half) == (0, 0, 4)


def test_fast_resends_are_not_limited_in_number() -> None:
    half = _half()
    half.send(1, START_US)
    for turn in range(12):
        at_us = START_US + turn * TICK_US
        half.send(2, at_us)
        half.acked(at_us + 50, 2 * turn + 1, 2 * turn + 2)
        assert [numbers for _, numbers in half.wait(at_us + TICK_US)] == [[0]]
    assert half.counts.fast == 12


# ------------------------------------------------------------------------------------- early


def test_an_early_resend_happens_at_a_tick_without_new_data() -> None:
    half = _half(tuning={"resend": 3})
    half.send(5, START_US)
    half.acked(START_US + 50, 1)
    assert half.transmit(START_US + 50) == []
    (left,) = half.wait(START_US + 2 * TICK_US)
    assert left[1] == [0]
    assert left[0] <= START_US + TICK_US + 50
    assert _causes(half) == (0, 1, 0)


def test_an_early_resend_happens_when_una_moves_without_new_data() -> None:
    half = _half(tuning={"resend": 3})
    half.send(5, START_US)
    half.acked(START_US + 50, 2)
    assert half.transmit(START_US + 50) == []
    half.acked(START_US + 60, 0, una=1)
    assert half.transmit(START_US + 60) == [1]
    assert _causes(half) == (0, 1, 0)


def test_there_is_no_early_resend_while_new_data_leaves() -> None:
    half = _half(tuning={"resend": 3}, send_window=64)
    half.send(5, START_US)
    half.acked(START_US + 50, 1)
    for tick in range(1, 4):
        half.write(1, START_US + tick * TICK_US)
        assert half.transmit(START_US + tick * TICK_US) == [4 + tick]
    assert half.counts.early == 0


def test_a_tail_that_nagle_delays_is_not_new_data() -> None:
    half = Half(stock_recovery(interval_us=TICK_US, resend=3), nagle=True)
    half.transmit(START_US - 1)
    half.send(5, START_US)
    assert half.send(0.5, START_US + 10) == []
    half.acked(START_US + 50, 1)
    half.transmit(START_US + 50)
    assert [numbers for _, numbers in half.wait(START_US + 2 * TICK_US)] == [[0]]
    assert half.counts.early == 1


def test_a_segment_that_was_not_passed_is_not_early() -> None:
    half = _half()
    half.send(5, START_US)
    half.acked(START_US + 50, 0, una=1)
    assert half.wait(START_US + 5 * TICK_US) == []
    assert _causes(half) == (0, 0, 0)


# ---------------------------------------------------------------------------------- timeouts


@pytest.mark.parametrize(
    ("nodelay", "after_ms"),
    [(True, [200, 500, 900, 1_400, 2_000]), (False, [200, 600, 1_200, 2_000, 3_000])],
)
def test_the_timeout_backs_off(nodelay: bool, after_ms: list[int]) -> None:
    """Before any sample the timeout is 200 ms; each expiry adds half of it, or the whole."""
    half = _half(tuning={"nodelay": nodelay})
    half.send(1, START_US)
    left = half.wait(START_US + after_ms[-1] * 1_000)
    assert [(at_us - START_US) // 1_000 for at_us, _ in left] == after_ms
    assert half.counts.lost == 5


@pytest.mark.parametrize(("nodelay", "floor_us"), [(True, 30_000), (False, 100_000)])
def test_the_timeout_has_a_floor(nodelay: bool, floor_us: int) -> None:
    half = _half(tuning={"nodelay": nodelay})
    now_us = START_US
    for number in range(30):
        half.send(1, now_us)
        now_us += 3_000
        half.acked(now_us, number, una=number + 1)
    assert half.recovery._timeout_us() == floor_us
    half.send(1, now_us)
    (left, *_) = half.wait(now_us + floor_us)
    assert left == (now_us + floor_us, [30])


def test_the_timeout_follows_the_samples() -> None:
    """srtt + max(interval, 4 rttvar)."""
    half = _half()
    half.send(1, START_US)
    half.acked(START_US + 80_000, 0, una=1)
    half.engine.transmit(START_US + 80_000)
    assert half.recovery._timeout_us() == 80_000 + 4 * 40_000
    for number in range(1, 60):
        at_us = START_US + number * 100_000
        half.send(1, at_us)
        half.acked(at_us + 80_000, number, una=number + 1)
    assert half.recovery._timeout_us() == pytest.approx(80_000 + TICK_US, abs=10)


def test_the_timeout_is_a_minute_at_most() -> None:
    half = _half(tuning={"nodelay": False})
    half.send(1, START_US)
    half.wait(START_US + 400_000_000)
    gaps = [
        (later - earlier) & 0xFFFF_FFFF
        for earlier, later in zip(half.stamps[0], half.stamps[0][1:], strict=False)
    ]
    assert len(gaps) > 20
    assert gaps == sorted(gaps)
    assert max(gaps) <= 60_000_000


def test_a_fast_resend_restarts_the_timer() -> None:
    """Though the timer had backed off far: or a fast resend that is lost waits for the old one."""
    half = _half()
    half.send(1, START_US)
    half.wait(START_US + 2_000_000)
    assert half.counts.lost == 5
    now_us = START_US + 2_010_000
    half.send(2, now_us)
    half.acked(now_us + 20_000, 1, 2)
    assert half.transmit(now_us + 20_000) == [0]
    timeout_us = half.recovery._timeout_us()
    assert timeout_us < 200_000
    (left, *_) = half.wait(now_us + 1_000_000)
    assert left == (now_us + 20_000 + timeout_us, [0])


def test_only_expired_segments_are_retransmitted() -> None:
    half = _half()
    half.send(3, START_US)
    half.send(3, START_US + 150_000)
    left = half.wait(START_US + 360_000)
    assert left == [(START_US + 200_000, [0, 1, 2]), (START_US + 350_000, [3, 4, 5])]


# --------------------------------------------------------------------------------- the books


def test_retransmissions_ignore_the_windows() -> None:
    """Stock KCP's resends are limited by nothing; new data is."""
    control = Fixed(5)
    half = _half(control)
    half.write(4, START_US)
    half.write(1, START_US)
    assert half.transmit(START_US) == [0, 1, 2, 3, 4]
    control.window = 1
    half.acked(START_US + 50, 0, 3, 4, una=1)
    assert half.transmit(START_US + 50) == [1, 2]
    assert [loss.segments for loss in control.losses] == [2]
    assert half.recovery.in_flight == 2


def test_a_timeout_is_reported_to_the_controller_once() -> None:
    control = Fixed(64)
    half = _half(control)
    half.send(5, START_US)
    half.wait(START_US + 300_000)
    assert len(control.timeouts) == 1
    assert [loss.segments for loss in control.losses] == [5]


def test_an_echo_of_an_older_stamp_counts_as_spurious() -> None:
    half = _half()
    half.send(4, START_US)
    half.wait(START_US + 200_000)
    assert half.counts.lost == 4
    half.acked(START_US + 210_000, 0, copy=0)
    half.acked(START_US + 210_000, 1, copy=1)
    half.acked(START_US + 210_000, 2, copy=0)
    half.acked(START_US + 210_001, 2, copy=1)
    assert half.recovery.spurious == 2
    assert half.engine.delivery.lost == 2


def test_the_cost_of_an_ack_does_not_depend_on_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in segments looked at: with nothing missing, each is looked at once, whatever the window."""
    looked = []
    outstanding = SendWindow.outstanding

    def counting(self: SendWindow, first: int, last: int) -> Int64s:
        looked.append(max(0, min(last, self.nxt) - max(first, self.una)))
        return outstanding(self, first, last)

    monkeypatch.setattr(SendWindow, "outstanding", counting)
    for window in (128, 4_000):
        looked.clear()
        half = _half()
        half.send(window, START_US)
        # An RTT of 10 ms, in ACK datagrams of 20; a datagram in ten says its una late.
        for first in range(0, window, 20):
            numbers = range(first, min(first + 20, window))
            una = first if first % 200 == 0 else numbers[-1] + 1
            half.acked(START_US + 10_000 + first, *numbers, una=una)
        assert half.engine.sending.sacked <= 20
        assert sum(looked) <= window
        assert max(looked) <= 40


def test_state_of_closed_holes_is_discarded() -> None:
    half = _half()
    for number in range(0, 400, 2):
        half.send(2, START_US + number)
        half.acked(START_US + number, number + 1, una=number)
        half.engine.receive(batch(ack(number, half.stamps[number][-1], number + 2)), START_US + number)
    assert len(half.recovery._holes) == 0
    assert half.recovery.in_flight == 0
    assert half.engine.deadline_us() is None
