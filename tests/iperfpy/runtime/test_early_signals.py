"""The signals of the program before its own handlers stand."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from iperfpy.runtime import early_signals
from iperfpy.runtime.early_signals import EarlySignals, Stopped, stopping_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_an_exception_and_a_duplicate_is_none(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_signals, "DUPLICATE_SIGNAL_S", 3600.0)  # a busy machine may take its time
    before = signal.getsignal(number)
    with EarlySignals() as signals:
        signals.check()
        with pytest.raises(Stopped):
            signal.raise_signal(number)
        signal.raise_signal(number)
        assert signals.number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_that_is_ignored_or_has_a_handler_stays_so(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with EarlySignals() as signals:
            signal.raise_signal(signal.SIGTERM)
            assert not signals.number
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_left_behind_if_every_signal_is_ignored() -> None:
    """As under nohup, in the background of a shell without job control."""
    hook, numbers = sys.unraisablehook, stopping_signals()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        with EarlySignals():
            assert sys.unraisablehook != hook
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert sys.unraisablehook == hook


def test_an_exception_that_the_interpreter_drops_is_raised_later(capfd: pytest.CaptureFixture[str]) -> None:
    """As one in a callback of the import system."""

    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with EarlySignals() as signals:
        Dropping()
        with pytest.raises(Stopped):
            signals.check()
    assert capfd.readouterr().err == ""


def test_other_threads_have_no_signals() -> None:
    def enter() -> None:
        with EarlySignals():
            entered.append(True)

    entered: list[bool] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered


LATER = """
import signal
from iperfpy.runtime import early_signals

early_signals.DUPLICATE_SIGNAL_S = -1
with early_signals.EarlySignals():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.live
def test_a_later_signal_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATER], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "iperfpy: interrupt - interrupted twice; stopped without a clean shutdown\n"
