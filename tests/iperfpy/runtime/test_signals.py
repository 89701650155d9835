"""A signal ends a test in good order; a second one, meant as such, does not wait for that."""

from __future__ import annotations

import asyncio
import signal

import pytest

from iperfpy.runtime import signals
from iperfpy.runtime.signals import Signals


async def arrive(count: int) -> list[str]:
    """Send SIGINT so many times to ourselves, and let the loop hear of each."""
    heard: list[str] = []
    with Signals(heard.append):
        for _ in range(count):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.02)
    return heard


async def test_the_first_signal_is_told_by_name() -> None:
    assert await arrive(1) == ["Interrupt(2)"]


async def test_one_wish_that_arrives_twice_is_one_wish() -> None:
    assert await arrive(2) == ["Interrupt(2)"]


async def test_a_second_wish_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "DUPLICATE_SIGNAL_S", 0.0)
    waiting = asyncio.create_task(arrive(3))
    with pytest.raises(asyncio.CancelledError):
        await waiting
