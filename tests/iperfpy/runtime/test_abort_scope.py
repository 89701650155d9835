"""Waits that end: by result, by deadline, by the end of the test."""

from __future__ import annotations

import asyncio

import pytest

from iperfpy.errors import LateError, PathError, PeerError
from iperfpy.runtime.abort_scope import AbortScope


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def test_result() -> None:
    assert await AbortScope().wait(give(5), 1, "late") == 5


async def test_deadline() -> None:
    with pytest.raises(LateError, match="too late"):
        await AbortScope().wait(forever(), 0.01, "too late")


async def test_called_off_meanwhile_cancels_and_releases() -> None:
    guard, released = AbortScope(), asyncio.Event()

    async def holding() -> None:
        try:
            await forever()
        finally:
            released.set()

    asyncio.get_running_loop().call_soon(guard.abort, PeerError("gone"))
    with pytest.raises(PeerError, match="gone"):
        await guard.wait(holding(), None, "")
    assert released.is_set()


async def test_called_off_before() -> None:
    guard = AbortScope()
    guard.abort(PeerError("first"))
    guard.abort(PathError("second"))
    with pytest.raises(PeerError, match="first"):
        await guard.wait(give(5), 1, "late")


async def test_a_better_explanation_wins() -> None:
    guard = AbortScope()
    guard.abort_later(0.02, PathError("reset"))
    guard.abort(PeerError("the server has terminated"))
    with pytest.raises(PeerError):
        await guard.wait(forever(), 1, "late")
    guard.close()


async def test_the_only_explanation_comes_in_the_end() -> None:
    guard = AbortScope()
    guard.abort_later(0.01, PathError("reset"))
    with pytest.raises(PathError, match="reset"):
        await guard.wait(forever(), 1, "late")


async def test_a_doubt_is_known_until_it_is_certain() -> None:
    guard = AbortScope()
    assert not guard.aborting
    guard.abort_later(0.01, PathError("reset"))
    assert guard.aborting
    with pytest.raises(PathError, match="reset"):
        await guard.wait(asyncio.get_running_loop().create_future(), None, "")
