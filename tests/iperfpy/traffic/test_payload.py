"""Blocks, budgets and paces, on a virtual clock."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from iperfpy.plan import Plan
from iperfpy.protocols.tcp import BULK_BYTES, Tcp, TcpSettings
from iperfpy.traffic.payload import (
    FOREVER,
    LONGEST_WAIT_US,
    SMALLEST_SLICE_BYTES,
    STALL_US,
    Budget,
    Pace,
    Payload,
)


def run_for(
    load: Payload, duration_us: int, start_us: int = 1_000_000, late_us: int = 0
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
    load = Payload(4096, Budget(0))
    assert [load.wait_us(now) for now in (0, 0, 5)] == [0, 0, 0]
    assert len(load.take()) == 4096


def test_payload_does_not_compress_to_nothing() -> None:
    load = Payload(4096, Budget(0))
    load.wait_us(0)
    assert len(set(load.take().tobytes())) > 100


def test_a_payload_of_digits_on_request() -> None:
    settings = TcpSettings(repeating_payload=True)
    load = Payload.of(Plan("tcp", settings, block_bytes=25), Tcp(), Budget(0))
    load.wait_us(0)
    assert load.take().tobytes() == b"0123456789012345678901234"


def test_budget_ends_exactly() -> None:
    load = Payload(1000, Budget(2500))
    load._budget.begin()
    assert [size for _, size in run_for(load, 10)] == [1000, 1000, 500]
    assert load.wait_us(0) == FOREVER


def test_budget_is_shared_exactly_between_threads() -> None:
    budget = Budget(1_000_003)
    budget.begin()
    loads = [Payload(997, budget) for _ in range(4)]
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
    load = Payload(1000, budget)
    for _ in range(5):
        assert load.wait_us(0) == 0
        assert len(load.take()) == 1000
    budget.begin()
    assert [size for _, size in run_for(load, 10)] == [1000, 500]


def test_stop() -> None:
    load = Payload(1000, Budget(0), rate_bps=8000)
    load.stop()
    assert load.wait_us(0) == FOREVER


@pytest.mark.parametrize("rate_bps", [100_000, 20_000_000, 1_000_000_000])
@pytest.mark.parametrize("late_us", [0, 900])
def test_pace_keeps_its_rate_and_is_smooth(rate_bps: int, late_us: int) -> None:
    taken = run_for(Payload(131072, Budget(0), rate_bps), 4_000_000, late_us=late_us)
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
    taken = run_for(Payload(131072, Budget(0), rate_bps), 100_000)
    assert {size for _, size in taken} == {slice_bytes}


def test_slow_pace_does_not_spin() -> None:
    load = Payload(131072, Budget(0), rate_bps=100_000)
    assert {size for _, size in run_for(load, 1_000_000)} == {SMALLEST_SLICE_BYTES}
    assert 0 < load.wait_us(2_000_000) <= LONGEST_WAIT_US


def test_a_stall_is_not_followed_by_a_burst() -> None:
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
    load = Payload(1000, Budget(0), rate_bps=8_000_000, burst_blocks=10)
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
    load = Payload.of(plan, Tcp(), Budget(0))
    assert load.wait_us(0) == 0
    assert len(load.take()) == offered


def test_several_blocks_at_once_end_exactly() -> None:
    budget = Budget(2 * BULK_BYTES + 77)
    budget.begin()
    load = Payload.of(Plan("tcp", TcpSettings()), Tcp(), budget)
    assert [size for _, size in run_for(load, 10)] == [BULK_BYTES, BULK_BYTES, 77]


def bins(taken: list[tuple[int, int]], first_us: int, count: int, width_us: int = 10_000) -> list[int]:
    """Bytes in each of `count` stretches of `width_us` from `first_us` on."""
    filled = [0] * count
    for now, size in taken:
        place = (now - first_us) // width_us
        if 0 <= place < count:
            filled[place] += size
    return filled


@pytest.mark.parametrize("late_us", [1, 60, 300])
@pytest.mark.parametrize(
    ("rate_bps", "block_bytes"),
    [
        (10_000_000, 1200),
        (50_000_000, 1400),
        (50_000_000, 8972),
        (1_000_000_000, 1400),
        (9_000_000_000, 1400),
    ],
)
def test_datagrams_at_a_rate_are_even(rate_bps: int, block_bytes: int, late_us: int) -> None:
    """A second of whole blocks, by a sleeper who is always late: no 10 ms off by more than 20 %, nor by more
    than a block and what it was late by; the second as a whole is exact to a block."""
    load = Payload(block_bytes, Budget(0), rate_bps, datagrams=True, blocks_per_take=128)
    taken = run_for(load, 1_100_000, late_us=late_us)
    assert all(size % block_bytes == 0 for _, size in taken)
    filled = bins(taken, 1_050_000, 100)
    wanted = rate_bps / 8 / 100
    slack = block_bytes + rate_bps / 8e6 * (250 + late_us)
    assert max(abs(size - wanted) for size in filled) <= slack
    if slack < 0.2 * wanted:
        assert max(abs(size - wanted) for size in filled) <= 0.2 * wanted
    assert sum(filled) == pytest.approx(100 * wanted, abs=slack)


def test_datagrams_after_a_stall_catch_up_with_little() -> None:
    """Nobody ran for half a second: what comes at once is bounded, and the rest is forgotten."""
    load, now = Payload(1400, Budget(0), 50_000_000, datagrams=True, blocks_per_take=128), 0
    while now < 100_000:
        wait = load.wait_us(now)
        if wait:
            now += wait
        else:
            load.take()
    now += 500_000
    burst = 0
    while not load.wait_us(now):
        burst += len(load.take())
    assert burst <= 50_000_000 / 8e6 * STALL_US + 2 * 1400


def test_bursts_of_datagrams_are_as_long_as_they_were_asked_for() -> None:
    """`-b 50M/100`: a hundred blocks back to back, then a pause for all of them."""
    load = Payload(1400, Budget(0), 50_000_000, burst_blocks=100, datagrams=True, blocks_per_take=128)
    taken = run_for(load, 1_000_000)
    times = sorted({now for now, _ in taken})
    sizes = [sum(size for now, size in taken if now == at) for at in times]
    assert set(sizes) == {140_000}
    assert all(later - earlier == 22_400 for earlier, later in pairwise(times))
