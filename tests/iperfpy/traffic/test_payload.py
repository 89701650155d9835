"""Payload blocks, byte budgets and pacing, on a virtual clock."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from iperfpy.plan import Plan
from iperfpy.protocols.tcp import BULK_BYTES, Tcp, TcpSettings
from iperfpy.traffic.payload import (
    FILE_WAIT_US,
    FOREVER,
    LONGEST_WAIT_US,
    SMALLEST_SLICE_BYTES,
    STALL_US,
    Budget,
    Pace,
    Payload,
)


def run_for(
    payload: Payload, duration_us: int, start_us: int = 1_000_000, late_us: int = 0
) -> list[tuple[int, int]]:
    """Return (time, bytes) of every slice taken by a transport that sleeps `late_us` too long."""
    now, taken = start_us, []
    while now < start_us + duration_us:
        wait = payload.wait_us(now)
        if wait == FOREVER:
            break
        if wait:
            now += wait + late_us
        else:
            taken.append((now, len(payload.take())))
    return taken


class Pieces:
    """A pipe that gives these pieces; None: it has nothing yet."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._pieces = list(pieces)

    def read_into(self, block: memoryview) -> int | None:
        piece = self._pieces.pop(0) if self._pieces else b""
        if piece is None:
            return None
        block[: len(piece)] = piece
        return len(piece)


def test_a_pipe_is_read_as_it_comes_and_uses_its_whole_budget() -> None:
    payload = Payload(8, Budget(10))
    payload.read_from(Pieces(b"abc", None, b"de", b"fgh", b"ij"))
    sent = b""
    waits = []
    while (wait := payload.wait_us(0)) != FOREVER:
        if wait:
            waits.append(wait)
        else:
            sent += payload.take().tobytes()
    # A piece that is shorter than a block takes no more from the budget than it is long.
    assert (sent, waits) == (b"abcdefghij", [FILE_WAIT_US])


def test_without_rate_or_end_every_block_goes_at_once() -> None:
    payload = Payload(4096, Budget(0))
    assert [payload.wait_us(now) for now in (0, 0, 5)] == [0, 0, 0]
    assert len(payload.take()) == 4096


def test_payload_does_not_compress_to_nothing() -> None:
    payload = Payload(4096, Budget(0))
    payload.wait_us(0)
    assert len(set(payload.take().tobytes())) > 100


def test_repeating_payload_consists_of_digits() -> None:
    settings = TcpSettings(repeating_payload=True)
    payload = Payload.of(Plan("tcp", settings, block_bytes=25), Tcp(), Budget(0))
    payload.wait_us(0)
    assert payload.take().tobytes() == b"0123456789012345678901234"


def test_budget_ends_exactly() -> None:
    payload = Payload(1000, Budget(2500))
    payload._budget.begin()
    assert [size for _, size in run_for(payload, 10)] == [1000, 1000, 500]
    assert payload.wait_us(0) == FOREVER


def test_budget_is_shared_exactly_between_threads() -> None:
    budget = Budget(1_000_003)
    budget.begin()
    payloads = [Payload(997, budget) for _ in range(4)]
    sent = [0] * 4

    def work(index: int) -> None:
        while payloads[index].wait_us(0) == 0:
            sent[index] += len(payloads[index].take())

    # Blocks of 997 bytes do not divide the budget: some thread must get the exact rest.
    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == 1_000_003


@pytest.mark.parametrize("rate_bps", [0, 50_000_000])
@pytest.mark.parametrize("total_bytes", [3_000_000, 131_072, 1])
def test_a_stock_peer_gets_whole_blocks_of_every_stream(total_bytes: int, rate_bps: int) -> None:
    """Its receiver leaves a part of a block out, or waits for the rest of it."""
    block, budget = 131_072, Budget(total_bytes)
    budget.begin()
    streams = [Payload(block, budget, rate_bps, bulk_bytes=4 * block, whole_blocks=True) for _ in range(3)]
    sent = [0, 0, 0]
    for now_us in range(0, 2_000_000, 500):
        for number, payload in enumerate(streams):
            if payload.wait_us(now_us) == 0:
                sent[number] += len(payload.take())
    assert [one % block for one in sent] == [0, 0, 0]
    assert sum(sent) == -(-total_bytes // block) * block
    assert all(payload.wait_us(2_000_000) in (-1, *range(1, 60_000)) for payload in streams)


def test_a_spent_budget_holds_its_senders_until_it_is_lifted() -> None:
    """A stock client reads whole blocks after the end, which it may have cut before."""
    budget = Budget(2000, may_be_lifted=True)
    budget.begin()
    payload = Payload(1000, budget, whole_blocks=True)
    assert [len(payload.take()) for _ in range(2) if payload.wait_us(0) == 0] == [1000, 1000]
    assert payload.wait_us(1) > 0
    budget.lift()
    assert payload.wait_us(2) == 0
    payload.stop()
    assert payload.wait_us(3) == -1


def test_budget_counts_only_after_the_omitted_period() -> None:
    budget = Budget(1500)
    payload = Payload(1000, budget)
    for _ in range(5):
        assert payload.wait_us(0) == 0
        assert len(payload.take()) == 1000
    budget.begin()
    assert [size for _, size in run_for(payload, 10)] == [1000, 500]


def test_a_stopped_payload_waits_forever() -> None:
    payload = Payload(1000, Budget(0), rate_bps=8000)
    payload.stop()
    assert payload.wait_us(0) == FOREVER


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
    """At most 100 slices a second at 10 Mb/s, and one every millisecond from 100 Mb/s on."""
    taken = run_for(Payload(131072, Budget(0), rate_bps), 100_000)
    assert {size for _, size in taken} == {slice_bytes}


def test_a_slow_pace_waits_between_the_smallest_slices() -> None:
    payload = Payload(131072, Budget(0), rate_bps=100_000)
    assert {size for _, size in run_for(payload, 1_000_000)} == {SMALLEST_SLICE_BYTES}
    assert 0 < payload.wait_us(2_000_000) <= LONGEST_WAIT_US


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
    payload = Payload(1000, Budget(0), rate_bps=8_000_000, burst_blocks=10)
    taken = run_for(payload, 100_000)
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
def test_only_default_blocks_without_a_rate_are_taken_in_bulk(
    block_bytes: int, rate_bps: int, burst_blocks: int, offered: int
) -> None:
    plan = Plan("tcp", TcpSettings(), block_bytes=block_bytes, rate_bps=rate_bps, burst_blocks=burst_blocks)
    payload = Payload.of(plan, Tcp(), Budget(0))
    assert payload.wait_us(0) == 0
    assert len(payload.take()) == offered


def test_a_budget_ends_exactly_within_a_bulk_take() -> None:
    budget = Budget(2 * BULK_BYTES + 77)
    budget.begin()
    payload = Payload.of(Plan("tcp", TcpSettings()), Tcp(), budget)
    assert [size for _, size in run_for(payload, 10)] == [BULK_BYTES, BULK_BYTES, 77]


def bins(taken: list[tuple[int, int]], first_us: int, count: int, width_us: int = 10_000) -> list[int]:
    """Return the bytes in each of `count` bins of `width_us` from `first_us` on."""
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
    """Whole blocks at a rate, although the transport always sleeps too long.

    No 10 ms differ from the rate by more than 20 %, nor by more than a block and the bytes of the delay; the
    second as a whole is exact to a block.
    """
    payload = Payload(block_bytes, Budget(0), rate_bps, datagrams=True, blocks_per_take=128)
    taken = run_for(payload, 1_100_000, late_us=late_us)
    assert all(size % block_bytes == 0 for _, size in taken)
    filled = bins(taken, 1_050_000, 100)
    wanted = rate_bps / 8 / 100
    # A bin may differ by a block, and by the bytes of 250 us and of the delay.
    slack = block_bytes + rate_bps / 8e6 * (250 + late_us)
    assert max(abs(size - wanted) for size in filled) <= slack
    if slack < 0.2 * wanted:
        assert max(abs(size - wanted) for size in filled) <= 0.2 * wanted
    assert sum(filled) == pytest.approx(100 * wanted, abs=slack)


def test_pacing_of_datagrams_makes_up_little_after_a_stall() -> None:
    """After half a second without a take, the burst is bounded and the rest of the backlog is dropped."""
    payload, now = Payload(1400, Budget(0), 50_000_000, datagrams=True, blocks_per_take=128), 0
    while now < 100_000:
        wait = payload.wait_us(now)
        if wait:
            now += wait
        else:
            payload.take()
    now += 500_000
    burst = 0
    while not payload.wait_us(now):
        burst += len(payload.take())
    assert burst <= 50_000_000 / 8e6 * STALL_US + 2 * 1400


def test_bursts_of_datagrams_have_the_requested_length() -> None:
    """`-b 50M/100`: a hundred blocks back to back, then a pause for all of them."""
    payload = Payload(1400, Budget(0), 50_000_000, burst_blocks=100, datagrams=True, blocks_per_take=128)
    taken = run_for(payload, 1_000_000)
    times = sorted({now for now, _ in taken})
    sizes = [sum(size for now, size in taken if now == at) for at in times]
    assert set(sizes) == {140_000}
    assert all(later - earlier == 22_400 for earlier, later in pairwise(times))
