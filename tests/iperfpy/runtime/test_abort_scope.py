"""Waits that end with a result, at a deadline, or when the scope is aborted."""

from __future__ import annotations

import asyncio

import pytest

from iperfpy.errors import FaultError, LateError, PathError, PeerError
from iperfpy.runtime.abort_scope import AbortScope


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def test_a_wait_returns_the_result() -> None:
    assert await AbortScope().wait(give(5), 1, "late") == 5


async def test_a_wait_past_its_deadline_raises_late_error() -> None:
    with pytest.raises(LateError, match="too late"):
        await AbortScope().wait(forever(), 0.01, "too late")


async def test_a_fault_met_in_the_sentence_of_a_late_error_goes_before_it() -> None:
    scope = AbortScope()

    def late() -> str:
        scope.abort(FaultError("the transport has a fault"))
        return "too late"

    with pytest.raises(FaultError):
        await scope.wait(forever(), 0.01, late)


async def test_an_abort_during_a_wait_cancels_the_awaited_task() -> None:
    scope, released = AbortScope(), asyncio.Event()

    async def wait_and_release() -> None:
        try:
            await forever()
        finally:
            released.set()

    asyncio.get_running_loop().call_soon(scope.abort, PeerError("gone"))
    with pytest.raises(PeerError, match="gone"):
        await scope.wait(wait_and_release(), None, "")
    assert released.is_set()


async def test_a_wait_in_an_aborted_scope_raises_the_first_error() -> None:
    scope = AbortScope()
    scope.abort(PeerError("first"))
    scope.abort(PathError("second"))
    with pytest.raises(PeerError, match="first"):
        await scope.wait(give(5), 1, "late")


async def test_an_abort_replaces_a_pending_delayed_abort() -> None:
    scope = AbortScope()
    scope.abort_later(0.02, PathError("reset"))
    scope.abort(PeerError("the server has terminated"))
    with pytest.raises(PeerError):
        await scope.wait(forever(), 1, "late")
    scope.close()


async def test_a_delayed_abort_takes_effect_after_its_delay() -> None:
    scope = AbortScope()
    scope.abort_later(0.01, PathError("reset"))
    with pytest.raises(PathError, match="reset"):
        await scope.wait(forever(), 1, "late")


async def test_a_pending_delayed_abort_is_visible_before_it_takes_effect() -> None:
    scope = AbortScope()
    assert not scope.aborting
    scope.abort_later(0.01, PathError("reset"))
    assert scope.aborting
    with pytest.raises(PathError, match="reset"):
        await scope.until_aborted()


async def test_waiting_for_an_abort_can_be_cancelled_and_repeated() -> None:
    scope = AbortScope()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scope.until_aborted(), 0.01)
    asyncio.get_running_loop().call_soon(scope.abort, PeerError("gone"))
    with pytest.raises(PeerError, match="gone"):
        await scope.until_aborted()


async def test_an_abort_reaches_nested_scopes_and_not_the_outer_one() -> None:
    outer = AbortScope()
    one, other = outer.nested(), outer.nested()
    one.abort(PathError("one attempt failed"))
    assert outer.error is None
    assert other.error is None
    outer.abort(PeerError("gone"))
    with pytest.raises(PeerError, match="gone"):
        await other.wait(forever(), 1, "late")
    with pytest.raises(PathError, match="one attempt failed"):
        await one.wait(forever(), 1, "late")


async def test_a_scope_nested_in_an_aborted_one_is_aborted() -> None:
    outer = AbortScope()
    outer.abort(PeerError("gone"))
    with pytest.raises(PeerError, match="gone"):
        await outer.nested().wait(forever(), 1, "late")


async def test_a_closed_scope_leaves_the_outer_one() -> None:
    outer = AbortScope()
    inner = outer.nested()
    inner.close()
    outer.abort(PeerError("gone"))
    await asyncio.sleep(0)
    assert inner.error is None
