"""A channel that makes all calls of a transport's channel in `errors.guarding`.

An exception that a transport raises on purpose keeps its sentence. Any other one is a fault (`FaultError`),
and ends the test at once. `CancelledError` is a fault unless this program has cancelled the task.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from iperfpy.errors import FaultError, IperfpyError, culprit, fault_of, guarding
from iperfpy.protocols.contract import Channel, Load, SocketAddress
from iperfpy.protocols.metrics import Value, number
from iperfpy.protocols.path_evidence import PathEvidence

CLOSE_S = 3.0
"""Longest time for a channel to close."""

T = TypeVar("T")


class GuardedChannel(Channel):
    """A transport's channel, as the rest of the program sees it.

    Calls that act (`send`, `receive`, `drain`, `keep`) raise `IperfpyError` only. Calls that
    ask, and `close`, raise nothing, so that a test with a fault can still report everything it has measured:
    they give the latest known answer.

    Parameters
    ----------
    transport : its name
    where : the stream, in sentences
    on_fault : called with each fault, in the call that has it

    Attributes
    ----------
    fault : the first fault, None while there is none
    """

    def __init__(
        self, channel: Channel, transport: str, where: str, on_fault: Callable[[FaultError], None]
    ) -> None:
        self._channel = channel
        self._transport = transport
        self._where = where
        self._on_fault = on_fault
        self.fault: FaultError | None = None
        self._counters: dict[str, Value] = {"bytes": 0}
        self._is_closed = False

    # -- calls that ask

    def fileno(self) -> int:
        return self._answer(self._channel.fileno, -1)

    @property
    def local_address(self) -> SocketAddress:
        return self._answer(lambda: self._channel.local_address, ("", 0))

    @property
    def remote_address(self) -> SocketAddress:
        return self._answer(lambda: self._channel.remote_address, ("", 0))

    @property
    def first_data_us(self) -> int | None:  # type: ignore[override]  # a plain attribute of other channels
        return self._answer(lambda: self._channel.first_data_us, None)

    @property
    def opening_us(self) -> int | None:  # type: ignore[override]  # a plain attribute of other channels
        return self._answer(lambda: self._channel.opening_us, None)

    @property
    def heard_us(self) -> int | None:
        return self._answer(lambda: self._channel.heard_us, None)

    def signs(self, since_us: int) -> tuple[str, ...]:
        return self._answer(lambda: tuple(map(str, self._channel.signs(since_us))), ())

    def warnings(self) -> tuple[str, ...]:
        return self._answer(lambda: tuple(map(str, self._channel.warnings())), ())

    def held_bytes(self) -> int:
        return self._answer(lambda: int(self._channel.held_bytes()), 0)

    def evidence(self) -> PathEvidence | None:
        return self._answer(self._evidence, None)

    def _evidence(self) -> PathEvidence | None:
        evidence = self._channel.evidence()
        if evidence is not None and not isinstance(evidence, PathEvidence):
            raise TypeError(f"evidence() gave a {type(evidence).__name__}, not PathEvidence or None")
        return evidence

    def wire_bytes(self) -> tuple[int, int] | None:
        return self._answer(self._channel.wire_bytes, None)

    def wake(self) -> None:
        # Called in a thread of the transport, by the writer of `keep`: its fault ends that thread's work, and
        # `receive` reports it on the event loop.
        with guarding(self._transport, self._where):
            self._channel.wake()

    def withdraw(self) -> None:
        self._answer(self._channel.withdraw, None)

    def counters(self) -> dict[str, Value]:
        self._counters = self._answer(self._record, self._counters)
        return dict(self._counters)

    def _record(self) -> dict[str, Value]:
        record = dict(self._channel.counters())
        if number(record.get("bytes")) is None:
            raise TypeError(f"counters() has no number under 'bytes', but {record.get('bytes')!r}")
        return record

    # -- calls that act

    async def send(self, load: Load) -> None:
        with self._guarding():
            await self._channel.send(load)

    async def receive(self) -> None:
        with self._guarding():
            await self._channel.receive()

    async def drain(self) -> None:
        with self._guarding():
            await self._channel.drain()

    def keep(self, write: Callable[[memoryview], None]) -> None:
        with self._guarding():
            self._channel.keep(write)

    def returned(self) -> Channel:
        with self._guarding():
            return self._channel.returned()

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        # A task, because a transport may not let itself be cancelled, as `asyncio.timeout` would do.
        closing = asyncio.create_task(self._close())
        try:
            await asyncio.wait([closing], timeout=CLOSE_S)
            if not closing.done():
                late = RuntimeError(f"close() did not return within {CLOSE_S:g} s")
                self.note(fault_of(late, culprit(self._transport), self._where))
        finally:
            closing.cancel()

    async def _close(self) -> None:
        # Errors of the path do not matter any more. A fault is noted.
        with contextlib.suppress(IperfpyError), self._guarding():
            await self._channel.close()

    # -- faults

    def note(self, fault: FaultError) -> None:
        """Take note of a fault of this channel, and report it."""
        self.fault = self.fault or fault
        self._on_fault(fault)

    def _answer(self, ask: Callable[[], T], otherwise: T) -> T:
        # Without the context managers, which take as long as a short answer: each stream is asked many times
        # per second.
        try:
            return ask()
        except BaseException as error:
            self._note_failed(error)
        return otherwise

    def _note_failed(self, failure: BaseException) -> None:
        """Note the fault of a call that asks. Raises `failure` if it is not a fault of the transport."""
        try:
            with self._guarding():
                raise failure
        except FaultError:
            return
        except IperfpyError as error:
            # A question has no error that belongs to the path: it is a fault as well.
            self.note(FaultError(str(error)))

    @contextlib.contextmanager
    def _guarding(self) -> Iterator[None]:
        try:
            with guarding(self._transport, self._where):
                yield
        except FaultError as fault:
            self.note(fault)
            raise
