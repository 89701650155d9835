"""The first signal ends a test in an orderly way; a second one cancels it."""

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


async def test_the_first_signal_is_reported_by_name() -> None:
    assert await arrive(1) == ["Interrupt(2)"]


async def test_a_duplicate_signal_is_ignored() -> None:
    assert await arrive(2) == ["Interrupt(2)"]


async def test_a_second_signal_cancels_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "DUPLICATE_SIGNAL_S", 0.0)
    waiting = asyncio.create_task(arrive(3))
    with pytest.raises(asyncio.CancelledError):
        await waiting
