"""The first signal is reported; a second one, unless it is a duplicate of the first, cancels the task."""

from __future__ import annotations

import asyncio
import signal
import threading

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


class BareLoop(asyncio.SelectorEventLoop):
    """An event loop without signal handlers, as on Windows."""

    def add_signal_handler(self, sig: int, callback: object, *args: object) -> None:
        raise NotImplementedError  # the answer of the event loops of Windows


def test_a_loop_without_signal_handlers_is_woken_by_a_signal() -> None:
    """The handler is Python's, and `select` returns at once: the loop has nothing else to do for a minute."""

    async def main() -> list[str]:
        reported: list[str] = []
        arrived = asyncio.Event()

        def report(name: str) -> None:
            reported.append(name)
            arrived.set()

        with Signals(report):
            threading.Timer(0.05, signal.raise_signal, (signal.SIGINT,)).start()
            async with asyncio.timeout(60):
                await arrived.wait()
        return reported

    before = signal.getsignal(signal.SIGINT)
    with asyncio.Runner(loop_factory=BareLoop) as runner:
        assert runner.run(main()) == ["Interrupt(2)"]
    assert signal.getsignal(signal.SIGINT) is before
