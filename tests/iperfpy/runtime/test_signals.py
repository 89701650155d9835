"""The first signal is reported; a second one, unless it is a duplicate of the first, cancels the task."""

from __future__ import annotations

import asyncio
import signal

import pytest

from iperfpy.runtime import signals
from iperfpy.runtime.signals import Signals


async def raise_signals(count: int) -> list[str]:
    """Send SIGINT `count` times to this process and return the names that were reported."""
    reported: list[str] = []
    with Signals(reported.append):
        for _ in range(count):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.02)
    return reported


async def test_the_first_signal_is_reported_by_name() -> None:
    assert await raise_signals(1) == ["Interrupt(2)"]


async def test_a_duplicate_signal_is_ignored() -> None:
    assert await raise_signals(2) == ["Interrupt(2)"]


async def test_a_second_signal_cancels_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "DUPLICATE_SIGNAL_S", 0.0)
    waiting = asyncio.create_task(raise_signals(3))
    with pytest.raises(asyncio.CancelledError):
        await waiting
