"""Bytes of tests and of the server, and the windows that ask for them."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.packet_blocks import ROWS
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.memory_budget import OWN_BYTES, TEST_BYTES, MemoryBudget, MemoryBudgets

MIB = 1 << 20


def test_a_test_cannot_hold_more_than_its_budget() -> None:
    budget = MemoryBudgets().of("one")
    assert budget.take(TEST_BYTES)
    assert not budget.take(1)
    budget.give(1)
    assert budget.take(1)


def test_the_own_part_of_a_test_is_there_whatever_others_hold() -> None:
    budgets = MemoryBudgets(100 * MIB)
    greedy = [budgets.of(number) for number in range(64)]
    for each in greedy:
        while each.take(MIB):
            pass
    assert budgets.shared_bytes == 0
    assert sum(each.held_bytes for each in greedy) == 100 * MIB + 64 * OWN_BYTES
    honest = budgets.of("honest")
    assert honest.take(OWN_BYTES)
    assert not honest.take(1)


def test_what_is_given_back_is_there_for_others() -> None:
    budgets = MemoryBudgets(10 * MIB)
    one, two = budgets.of("one"), budgets.of("two")
    assert one.take(OWN_BYTES + 10 * MIB)
    assert not two.take(OWN_BYTES + 1)
    one.give(5 * MIB)
    assert two.take(OWN_BYTES + 5 * MIB)
    one.give(one.held_bytes)
    two.give(two.held_bytes)
    assert budgets.shared_bytes == 10 * MIB


def test_the_streams_of_a_test_share_its_budget() -> None:
    budgets = MemoryBudgets()
    one = budgets.of("test")
    assert budgets.of("test") is one
    assert budgets.of("other") is not one


def filled(window: SendWindow) -> int:
    """Write until the window takes no more; return the bytes taken."""
    data, taken = memoryview(bytes(MIB)), 0
    while window.room_bytes(1 << 20):
        taken += window.write(data, 1 << 20, 0)
    return taken


@pytest.mark.parametrize("mtu", [64, 1400, 65_507])
def test_the_send_window_is_as_long_as_its_memory(mtu: int) -> None:
    """The client asks for the widest window of the largest datagrams, and acknowledges nothing."""
    budget = MemoryBudget(MemoryBudgets(0), 8 * MIB, 8 * MIB)
    window = SendWindow(7, mtu, 65_535, memory=budget)
    taken = filled(window)
    assert window.limit * mtu <= max(8 * MIB, 256 * mtu)
    # Datagrams lie in whole blocks.
    assert window.packets.held_bytes <= -(-window.limit // ROWS) * ROWS * mtu
    assert taken == window.limit * (mtu - 24)
    assert (window.limit < 65_535) == (mtu > 64)
    # It goes on as a window of that length does.
    window.stamp_new(0, 10, 1, 0, 0)
    window.advance(10)
    assert filled(window) == 10 * (mtu - 24)
    held = budget.held_bytes
    window.release()
    assert (budget.held_bytes, held > 0) == (0, mtu < 65_507)
    assert window.packets.held_bytes == 0


def test_a_large_write_gets_the_largest_ring_that_is_granted() -> None:
    window = SendWindow(7, 1400, 65_535, memory=MemoryBudget(MemoryBudgets(0), 8 * MIB, 8 * MIB))
    window.write(memoryview(bytes(64 * MIB)), 1 << 20, 0)
    assert window.limit == window.capacity == 4096


def test_64_streams_have_the_usual_window() -> None:
    budget = MemoryBudgets().of("one")
    windows = [SendWindow(conv, 1400, 2048, 300, budget) for conv in range(64)]
    assert {filled(window) for window in windows} == {2048 * 1376}
    assert sum(window.packets.held_bytes for window in windows) <= budget.held_bytes


def test_a_window_with_memory_enough_is_not_limited() -> None:
    budget = MemoryBudgets().of("one")
    window = SendWindow(7, 1400, 2048, memory=budget)
    assert filled(window) == 2048 * 1376
    assert window.limit == 2048
    assert budget.held_bytes >= window.packets.held_bytes


def test_streams_of_one_test_hold_no_more_together() -> None:
    budget = MemoryBudget(MemoryBudgets(0), 8 * MIB, 8 * MIB)
    settings = KcpSettings(sndwnd=65_535)
    engines = [engine_factory.stock(conv, settings, memory=budget) for conv in range(1, 9)]
    for engine in engines:
        filled(engine.sending)
    beyond = sum(engine.sending.packets.held_bytes for engine in engines if engine.sending.capacity > 256)
    assert beyond <= 8 * MIB
    for engine in engines:
        engine.release()
    assert budget.held_bytes == 0
    assert not any(engine.sending.packets.held_bytes for engine in engines)
