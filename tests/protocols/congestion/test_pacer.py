"""The token bucket of pacing: rate, quantum, late timers, idle time."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.congestion_control import UNLIMITED
from iperfpy.protocols.congestion.pacer import Pacer


def drive(pacer: Pacer, rate: float, burst: int, seconds: float, late_us: int = 0) -> int:
    """Release the allowed segments at each deadline, `late_us` late, and return their number."""
    now, released = 0, 0
    while now < seconds * 1e6:
        count = pacer.allowance(now, rate, burst)
        pacer.spend(count)
        released += count
        due = pacer.release_us(rate, burst)
        now = now if due is None else due + late_us
    return released


@pytest.mark.parametrize("rate", [3.0, 437.0, 43_700.0, 1e6])
@pytest.mark.parametrize("burst", [1, 2, 46])
def test_the_pacer_keeps_its_rate(rate: float, burst: int) -> None:
    seconds = min(4.0, 40_000 / rate)
    released = drive(Pacer(), rate, burst, seconds)
    assert released == pytest.approx(seconds * rate, rel=0.002, abs=burst + 1)


def test_late_timers_do_not_lower_the_rate() -> None:
    assert drive(Pacer(late_us=2_000), 8_700.0, 4, 2.0, late_us=1_500) == pytest.approx(17_400, rel=0.005)


def test_idle_time_does_not_allow_a_burst() -> None:
    pacer = Pacer(late_us=2_000)
    pacer.spend(pacer.allowance(0, 1_000.0, 2))
    assert pacer.allowance(60_000_000, 1_000.0, 2) == 4


def test_time_behind_a_closed_window_does_not_allow_a_burst() -> None:
    pacer = Pacer(late_us=8_000)
    pacer.spend(pacer.allowance(0, 10_000.0, 2))
    assert pacer.allowance(20_000, 10_000.0, 2, late=False) == 12
    pacer.spend(12)
    assert pacer.allowance(40_000, 10_000.0, 2, late=True) == 82


def test_the_pacer_waits_for_a_complete_quantum() -> None:
    pacer = Pacer()
    pacer.spend(pacer.allowance(0, 10_000.0, 10))
    assert pacer.release_us(10_000.0, 10) == 1_000
    assert pacer.allowance(500, 10_000.0, 10) == 0
    assert pacer.release_us(10_000.0, 10) == 1_000
    assert pacer.allowance(1_000, 10_000.0, 10) == 10
    assert pacer.release_us(10_000.0, 10) is None


def test_segments_sent_beyond_the_allowance_delay_the_next() -> None:
    pacer = Pacer()
    pacer.allowance(0, 1_000.0, 1)
    pacer.spend(11)
    assert pacer.allowance(5_000, 1_000.0, 1) == 0
    assert pacer.release_us(1_000.0, 1) == 11_000


def test_an_unlimited_pacer_never_waits() -> None:
    pacer = Pacer()
    assert pacer.allowance(0, UNLIMITED, 1) > 1_000_000
    pacer.spend(500_000)
    assert pacer.release_us(UNLIMITED, 1) is None
