"""Signals that end a program in an orderly way: SIGINT, SIGTERM, SIGHUP; or SIGHUP for a service's files.

Only the command line uses them. `run_client` and `run_server` install no handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from iperfpy.errors import FaultError, InterruptError, fault_of
from iperfpy.plan import Role
from iperfpy.protocols.socket_watch import SocketWatch
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.early_signals import DUPLICATE_SIGNAL_S, signal_name, stopping_signals

T = TypeVar("T")
log = logging.getLogger(__name__)
OnSignal = Callable[[str], None]


async def until_signalled(
    role: Role, main: Callable[[AbortScope], Awaitable[T]], on_hangup: Callable[[], None] | None = None
) -> T:
    """The result of `main(scope)`. The first signal aborts the scope with an `InterruptError`, the second
    cancels the task that called this function. `on_hangup`: see `Signals`."""
    scope = AbortScope()

    def interrupt(name: str) -> None:
        scope.abort(InterruptError(f"the {role.value} has terminated by signal {name}"))

    def failed(fault: FaultError) -> None:
        # A server cannot tell which test it belongs to, and goes on.
        if role is Role.CLIENT:
            scope.abort(fault)
        else:
            log.error("%s", fault)

    with Signals(interrupt, on_hangup), failing_callbacks(failed):
        return await main(scope)


@contextlib.contextmanager
def failing_callbacks(failed: Callable[[FaultError], None]) -> Iterator[None]:
    """Call `failed` if a callback of the event loop raises an exception. asyncio only logs it, and a test
    with data that a transport carries in callbacks would end as one without data."""
    loop = asyncio.get_running_loop()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "handle" not in context or not isinstance(error, Exception):
            loop.default_exception_handler(context)
            return
        log.debug("%s", context.get("message"), exc_info=error)
        failed(fault_of(error, "a callback of a transport, or of this program,"))

    before = loop.get_exception_handler()
    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


class Signals:
    """A context in which the first signal calls `on_signal` with its name, e.g. "Interrupt(2)".

    The second one cancels the task that entered the context: the user does not want to wait for a clean
    shutdown. A signal that the parent process had ignored (nohup) stays ignored. Outside the main thread
    the context has no effect.

    Parameters
    ----------
    on_signal : called with the name of the first signal
    on_hangup : called for every SIGHUP, which then ends nothing; None: it is a signal like the others
    """

    def __init__(self, on_signal: OnSignal, on_hangup: Callable[[], None] | None = None) -> None:
        self._on_signal = on_signal
        self._on_hangup = on_hangup
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._handled: list[signal.Signals] = []
        self._own: list[signal.Signals] = []
        self._alarm: SignalAlarm | None = None
        self._first_s: float | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in stopping_signals():
            if signal.getsignal(number) is not signal.SIG_IGN:
                try:
                    self._loop.add_signal_handler(number, self._arrived, number)
                except NotImplementedError:  # the event loops of Windows
                    signal.signal(number, self._interrupted)
                    self._own.append(number)
                else:
                    self._handled.append(number)
        if self._own:
            self._alarm = SignalAlarm()
            self._alarm.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._handled:
            self._loop.remove_signal_handler(number)
        for number in self._own:  # as an event loop does
            is_ctrl_c = number is signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
        if self._alarm is not None:
            self._alarm.close()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """The handler where the event loop has none (Windows). It runs between two steps of the loop, or in
        the middle of one."""
        self._loop.call_soon_threadsafe(self._arrived, signal.Signals(number))

    def _arrived(self, number: signal.Signals) -> None:
        if self._on_hangup is not None and number.name == "SIGHUP":
            self._on_hangup()
            return
        now_s = self._loop.time()
        if self._first_s is None:
            self._first_s = now_s
            self._on_signal(signal_name(number))
        elif self._task is not None and now_s - self._first_s > DUPLICATE_SIGNAL_S:
            self._task.cancel()


class SignalAlarm:
    """Wakes the event loop when a signal arrives, so that Python can call its handler.

    The interpreter calls a handler between two of its instructions, and `select` of Windows sleeps on through
    a Ctrl-C. For each signal it writes a byte to a socket, which the event loop watches.
    """

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._watch = SocketWatch(self._reading.fileno())
        self._before = -1

    def start(self) -> None:
        """Begin to wake the loop. Runs in the main thread, as `close` does."""
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._watch.read(self._discard)

    def close(self) -> None:
        """Leave signals as they were before `start`."""
        signal.set_wakeup_fd(self._before)
        self._watch.close()
        self._reading.close()
        self._writing.close()

    def _discard(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(64)
