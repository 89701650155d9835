"""The memory of datagrams, which all streams share."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.kcp.packet_blocks import BLOCK_BYTES, KEPT_BYTES, ROWS, PacketBlock, PacketPool
from iperfpy.protocols.kcp.send_window import SendWindow

MTU = 124
MSS = MTU - 24


def test_the_block_given_back_last_is_the_next_one() -> None:
    pool = PacketPool()
    first, second, other = pool.take(ROWS, MTU), pool.take(ROWS, MTU), pool.take(ROWS, MTU + 1)
    for block in (first, second, other):
        pool.give(block)
    assert pool.take(ROWS, MTU) is second
    assert pool.take(ROWS, MTU) is first
    assert pool.take(ROWS, MTU + 1) is other
    assert pool.kept_bytes == 0


def test_free_blocks_are_bounded_over_all_widths() -> None:
    """Peers choose the widths. The width that was given back last is kept."""
    pool, width = PacketPool(), 1_400
    for odd in range(1, 200):
        pool.give(PacketBlock(64, 8_000 + odd))
        assert pool.kept_bytes <= KEPT_BYTES
    usual = [PacketBlock(ROWS, width) for _ in range(KEPT_BYTES // (ROWS * width))]
    for block in usual:
        pool.give(block)
    assert KEPT_BYTES - ROWS * width < pool.kept_bytes <= KEPT_BYTES
    assert [pool.take(ROWS, width) for _ in usual] == usual[::-1]
    assert pool.kept_bytes <= BLOCK_BYTES  # one of the others had room


def test_a_block_larger_than_the_bound_is_not_kept() -> None:
    pool = PacketPool()
    pool.give(PacketBlock(ROWS, KEPT_BYTES // ROWS + 1))
    assert pool.kept_bytes == 0


def test_streams_in_turn_use_the_same_memory() -> None:
    pool = PacketPool()
    blocks: set[int] = set()
    for conv in range(1, 20):
        window = SendWindow(conv, MTU, 4_096, pool=pool)
        for _ in range(20):
            window.write(memoryview(bytes(ROWS * MSS)), 4_096, 0)
            window.stamp_new(window.nxt, window.end, 1, 0, 0)
            blocks |= {id(block) for block, *_ in window.packets.runs(window.una, window.end)}
            window.advance(window.end)
    assert len(blocks) == 1


def test_another_stream_does_not_write_where_datagrams_wait_for_the_socket() -> None:
    """A peer acknowledges what it cannot have seen yet: its copies must not become another stream's data."""
    pool = PacketPool()
    one, two = (SendWindow(conv, MTU, 4_096, pool=pool) for conv in (1, 2))
    one.write(memoryview(b"1" * ROWS * MSS), 4_096, 0)
    one.stamp_new(0, ROWS, 1, 0, 0)
    ((block, start, stop, _),) = one.packets.runs(0, ROWS)
    waiting = block.packets[start:stop]
    one.packets.lent = True
    one.advance(ROWS)
    two.write(memoryview(b"2" * ROWS * MSS), 4_096, 0)
    assert np.all(waiting[:, 24:] == ord("1"))
    one.packets.settle()
    one.write(memoryview(b"3" * ROWS * MSS), 4_096, 0)
    assert [found for found, *_ in one.packets.runs(ROWS, 2 * ROWS)] == [block]


def test_a_conversation_that_ends_leaves_no_memory_behind() -> None:
    pool = PacketPool()
    window = SendWindow(7, MTU, 4_096, pool=pool)
    window.write(memoryview(bytes(3 * ROWS * MSS)), 4_096, 0)
    window.stamp_new(0, 2 * ROWS, 1, 0, 0)
    window.packets.lent = True
    window.advance(ROWS)
    assert (pool.kept_bytes, window.packets.held_bytes) == (0, 3 * ROWS * MTU)
    window.release()
    assert (pool.kept_bytes, window.packets.held_bytes) == (0, 0)


@pytest.mark.parametrize("mtu", [64, 1_400, 9_000, 65_507])
def test_the_ends_of_a_window_take_two_blocks_at_most(mtu: int) -> None:
    """A peer chooses the size of datagrams, and what it acknowledges last."""
    for first in (0, 1, 255, 500, 511):
        window = SendWindow(7, mtu, 256, first, pool=PacketPool())
        window.write(memoryview(bytes(256 * (mtu - 24))), 256, 0)
        assert window.end - window.una == 256
        assert window.packets.held_bytes <= 256 * mtu + 2 * BLOCK_BYTES


def test_acknowledgements_after_the_end_of_a_conversation_are_harmless() -> None:
    window = SendWindow(7, MTU, 4_096, pool=PacketPool())
    window.write(memoryview(bytes(2 * ROWS * MSS)), 4_096, 0)
    window.stamp_new(0, 2 * ROWS, 1, 0, 0)
    window.release()
    assert window.advance(2 * ROWS)[0] == 2 * ROWS
    assert window.packets.held_bytes == 0
