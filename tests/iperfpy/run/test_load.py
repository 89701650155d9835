"""Blocks, budgets and paces, on a virtual clock."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from iperfpy.plan import Plan
from iperfpy.run.load import FOREVER, LONGEST_WAIT_US, SMALLEST_SLICE_BYTES, STALL_US, Budget, Load, Pace
from protocols.tcp import BULK_BYTES, Tcp, TcpSettings


def run_for(
    load: Load, duration_us: int, start_us: int = 1_000_000, late_us: int = 0
) -> list[tuple[int, int]]:
    """(time, bytes) of every slice that a transport takes which sleeps exactly, or `late_us` too long."""
    now, taken = start_us, []
    while now < start_us + duration_us:
        wait = load.wait_us(now)
        if wait == FOREVER:
            break
        if wait:
            now += wait + late_us
        else:
            taken.append((now, len(load.take())))
    return taken


def test_without_rate_or_end_every_block_goes_at_once() -> None:
    load = Load(4096, Budget(0))
    assert [load.wait_us(now) for now in (0, 0, 5)] == [0, 0, 0]
    assert len(load.take()) == 4096


def test_payload_does_not_compress_to_nothing() -> None:
    load = Load(4096, Budget(0))
    load.wait_us(0)
    assert len(set(load.take().tobytes())) > 100


def test_digits_where_they_are_asked_for() -> None:
    settings = TcpSettings(repeating_payload=True)
    load = Load.of(Plan("tcp", settings, block_bytes=25), Tcp(), Budget(0))
    load.wait_us(0)
    assert load.take().tobytes() == b"0123456789012345678901234"


def test_budget_ends_exactly() -> None:
    load = Load(1000, Budget(2500))
    load._budget.begin()
    assert [size for _, size in run_for(load, 10)] == [1000, 1000, 500]
    assert load.wait_us(0) == FOREVER
    assert load.exhausted


def test_budget_is_shared_exactly_between_threads() -> None:
    budget = Budget(1_000_003)
    budget.begin()
    loads = [Load(997, budget) for _ in range(4)]
    sent = [0] * 4

    def work(index: int) -> None:
        while loads[index].wait_us(0) == 0:
            sent[index] += len(loads[index].take())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == 1_000_003


def test_budget_counts_only_after_the_omitted_stretch() -> None:
    budget = Budget(1500)
    load = Load(1000, budget)
    for _ in range(5):
        assert load.wait_us(0) == 0
        assert len(load.take()) == 1000
    budget.begin()
    assert [size for _, size in run_for(load, 10)] == [1000, 500]


def test_stop() -> None:
    load = Load(1000, Budget(0), rate_bps=8000)
    load.stop()
    assert load.wait_us(0) == FOREVER


@pytest.mark.parametrize("rate_bps", [100_000, 20_000_000, 1_000_000_000])
@pytest.mark.parametrize("late_us", [0, 900])
def test_pace_keeps_its_rate_and_is_smooth(rate_bps: int, late_us: int) -> None:
    taken = run_for(Load(131072, Budget(0), rate_bps), 4_000_000, late_us=late_us)
    expected = rate_bps * 4 / 8
    assert sum(size for _, size in taken) == pytest.approx(expected, rel=0.01, abs=3000)
    in_any_20_ms: dict[int, int] = {}
    for now, size in taken:
        in_any_20_ms[now // 20_000] = in_any_20_ms.get(now // 20_000, 0) + size
    assert max(in_any_20_ms.values()) <= rate_bps / 8 * 0.032 + SMALLEST_SLICE_BYTES


@pytest.mark.parametrize(
    ("rate_bps", "slice_bytes"), [(10_000_000, 12_500), (50_000_000, 12_500), (400_000_000, 50_000)]
)
def test_slices_are_large_enough_to_sleep_between_them(rate_bps: int, slice_bytes: int) -> None:
    """No more than 100 a second at 10 Mb/s, one every millisecond from 100 Mb/s on."""
    taken = run_for(Load(131072, Budget(0), rate_bps), 100_000)
    assert {size for _, size in taken} == {slice_bytes}


def test_slow_pace_does_not_spin() -> None:
    load = Load(131072, Budget(0), rate_bps=100_000)
    assert {size for _, size in run_for(load, 1_000_000)} == {SMALLEST_SLICE_BYTES}
    assert 0 < load.wait_us(2_000_000) <= LONGEST_WAIT_US


def test_a_stall_makes_no_burst() -> None:
    pace = Pace(8_000_000)  # a byte per microsecond
    assert pace.wait_us(0) == 0
    pace.spend(1000)
    stalled_until = 5_000_000
    caught_up = 0
    while pace.wait_us(stalled_until) == 0:
        pace.spend(1000)
        caught_up += 1000
    assert STALL_US <= caught_up <= STALL_US + 1000


def test_burst_goes_back_to_back() -> None:
    load = Load(1000, Budget(0), rate_bps=8_000_000, burst_blocks=10)
    taken = run_for(load, 100_000)
    times = sorted({now for now, _ in taken})
    assert [sum(size for now, size in taken if now == at) for at in times] == [10_000] * len(times)
    assert all(later - earlier == 10_000 for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    ("block_bytes", "rate_bps", "burst_blocks", "offered"),
    [
        (128 * 1024, 0, 0, BULK_BYTES),
        (64 * 1024, 0, 0, 64 * 1024),
        (256 * 1024, 0, 0, 256 * 1024),
        (128 * 1024, 100_000_000_000, 0, 128 * 1024),
        (128 * 1024, 100_000_000_000, 2, 128 * 1024),
    ],
)
def test_several_blocks_at_once_unless_told_otherwise(
    block_bytes: int, rate_bps: int, burst_blocks: int, offered: int
) -> None:
    plan = Plan("tcp", TcpSettings(), block_bytes=block_bytes, rate_bps=rate_bps, burst_blocks=burst_blocks)
    load = Load.of(plan, Tcp(), Budget(0))
    assert load.wait_us(0) == 0
    assert len(load.take()) == offered


def test_several_blocks_at_once_end_exactly() -> None:
    budget = Budget(2 * BULK_BYTES + 77)
    budget.begin()
    load = Load.of(Plan("tcp", TcpSettings()), Tcp(), budget)
    assert [size for _, size in run_for(load, 10)] == [BULK_BYTES, BULK_BYTES, 77]
