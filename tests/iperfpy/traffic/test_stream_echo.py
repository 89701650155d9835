"""The payload of an end that returns what it receives."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from iperfpy.errors import PathError
from iperfpy.traffic.measured_stream import MeasuredStream
from iperfpy.traffic.payload import FOREVER
from iperfpy.traffic.stream_echo import MOST_WAITING_BYTES, TAKE_BYTES, StreamEcho


def drained(echo: StreamEcho) -> list[bytes]:
    taken = []
    while echo.wait_us(0) == 0:
        taken.append(bytes(echo.take()))
    return taken


def test_every_byte_comes_back_once_and_in_order() -> None:
    woken: list[None] = []
    echo = StreamEcho(lambda: woken.append(None))
    pieces = [bytes([number % 256]) * (1 + number % 3_000) for number in range(500)]
    for piece in pieces:
        echo.arrived(memoryview(piece))
    taken = drained(echo)
    assert b"".join(taken) == b"".join(pieces)
    assert max(map(len, taken)) <= TAKE_BYTES
    assert len(woken) == len(pieces)
    assert echo.wait_us(0) > 0


def test_an_arrival_longer_than_a_take_leaves_whole() -> None:
    echo = StreamEcho(lambda: None)
    echo.arrived(memoryview(bytes(2 * TAKE_BYTES)))
    echo.arrived(memoryview(b"x"))
    assert [len(one) for one in drained(echo)] == [2 * TAKE_BYTES, 1]


def test_a_way_back_that_is_too_slow_is_a_sentence() -> None:
    echo = StreamEcho(lambda: None)
    echo.arrived(memoryview(bytes(MOST_WAITING_BYTES)))
    with pytest.raises(PathError, match=r"the way back is slower than the peer sends"):
        echo.arrived(memoryview(b"x"))


def test_room_returns_as_bytes_leave() -> None:
    echo = StreamEcho(lambda: None)
    for _ in range(4):
        echo.arrived(memoryview(bytes(MOST_WAITING_BYTES)))
        assert len(echo.take()) == MOST_WAITING_BYTES


def test_nothing_leaves_after_the_end() -> None:
    echo = StreamEcho(lambda: None)
    echo.arrived(memoryview(b"x"))
    echo.stop()
    assert echo.wait_us(0) == FOREVER


async def test_a_stream_that_fails_both_ways_at_once_leaves_no_error_untaken() -> None:
    broken = asyncio.Event()

    async def fails(*args: object) -> None:
        await broken.wait()
        raise PathError("the stream broke")

    end: Any = SimpleNamespace(channel=SimpleNamespace(send=fails, receive=fails))
    untaken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: untaken.append(context))
    conversing = asyncio.ensure_future(MeasuredStream._converse(end, StreamEcho(lambda: None)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    broken.set()
    with pytest.raises(PathError, match="the stream broke"):
        await conversing
    del conversing
    await asyncio.sleep(0)  # the event loop lets go of the task
    gc.collect()
    assert untaken == []
