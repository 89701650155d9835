"""One run of `--relay`: a UDP relay over the path and a TCP relay beside it, in front of a server.

It needs no rights and works on every system. Only datagrams meet the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from types import FrameType
from typing import TextIO

import numpy as np

from iperfpy.errors import IperfpyError, LabError, system_reason
from iperfpy.lab.byte_relay import ByteRelay
from iperfpy.lab.datagram_relay import BUFFER_BYTES, DatagramRelay
from iperfpy.lab.lab_status import NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT, LabTime
from iperfpy.lab.process_priority import prefer_this_process
from iperfpy.lab.run_report import RunReport
from iperfpy.lab.way import MTU, Way
from iperfpy.lab.way_log import keep_logs
from iperfpy.protocols.addresses import family_of
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import fine_timers, rebind_soon
from iperfpy.protocols.simulator.path import OVERHEAD_BYTES, Path
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.sockets import resolve_within

BACKLOG = 128
LOOKUP_S = Deadlines().lookup_s
GOODBYE_S = 2.0
_LOOK_S = 0.1
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """A run to be made.

    text : the path in the user's words
    server : (host, port) of the server
    listen : (host, port) of the relay; port 0 for one that the system chooses
    command : runs against the relay; empty: the relay runs until a signal
    timeout_s : the run is ended after that time; infinity for never
    logs : an empty stream per way for its log in mahimahi's format, or None
    """

    text: str
    paths: tuple[Path, Path]
    server: tuple[str, int]
    listen: tuple[str, int]
    command: Sequence[str] = ()
    seed: int = 1
    timeout_s: float = inf
    logs: tuple[TextIO | None, TextIO | None] = (None, None)


def run(plan: RelayPlan, on_listening: Callable[[SocketAddress], None]) -> RunReport:
    """Relay until the command has ended or a signal comes; the report has the command's status.

    on_listening : called with the relay's address

    Raises LabError.
    """
    server = _resolve(plan.server)
    listener, datagrams = _listen(_resolve(plan.listen))
    clock = LabTime()
    seeds = np.random.SeedSequence(plan.seed).spawn(2)
    there, back = ways = tuple(
        Way(_limited(path), seed, OVERHEAD_BYTES) for path, seed in zip(plan.paths, seeds, strict=True)
    )
    logs = keep_logs(ways, plan.paths, plan.logs, plan.text)
    relay = DatagramRelay(datagrams, server, (there, back), clock.now_us)
    streams = ByteRelay(listener, server)
    try:
        streams.start()
        on_listening(datagrams.local_address)
        course = _Course(plan, clock)
        with course, fine_timers():
            course.start(datagrams.local_address)
            prefer_this_process()
            status = _relay(relay, course, clock)
        reason = relay.why_unclean()
    finally:
        streams.close()
        relay.close()
    ended_us = clock.now_us()
    for way in ways:
        way.write_log(ended_us)
    return RunReport(
        plan.text,
        plan.seed,
        ended_us / 1e6,
        status,
        (there.truth, back.truth),
        -OVERHEAD_BYTES,
        relay.late,
        reason,
        tuple(log.error for log in logs if log.error is not None),
    )


def _relay(relay: DatagramRelay, course: _Course, clock: LabTime) -> int:
    """Take turns until the run is over; its status."""
    while (status := course.status()) is None:
        if rest_us := relay.rest_us():
            time.sleep(rest_us / 1e6)
        wait_s = min(_LOOK_S, max(0.0, (relay.due_us() - clock.now_us()) / 1e6))
        readable, _, _ = select.select(relay.sockets(), [], [], wait_s)
        if readable:
            clock.begin()  # without a command, events count from the first datagram
        relay.turn(readable)
    return status


class _Course:
    """The command and the signals of a run. A context: at its end the command has ended."""

    def __init__(self, plan: RelayPlan, clock: LabTime) -> None:
        self._plan, self._clock = plan, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._signalled = 0
        self._begun_s = time.monotonic()
        self._expired_s = inf
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> _Course:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *reason: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # the value that it returned
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def start(self, relay: SocketAddress) -> None:
        """Start the command, with the relay's address in its environment. Raises LabError."""
        if not self._plan.command:
            return
        names = {"LAB_FAR": str(relay[0]), "LAB_PORT": str(relay[1])}
        name = self._plan.command[0]
        try:
            self._process = subprocess.Popen(list(self._plan.command), env={**os.environ, **names})
        except FileNotFoundError:
            raise LabError(f"{name}: command not found", NOT_FOUND) from None
        except OSError as error:
            raise LabError(f"{name}: {error.strerror}", NOT_EXECUTABLE) from None
        self._clock.begin()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = number
        # A terminal's Ctrl-C reaches the command by itself.
        if self._process is not None and number != signal.SIGINT:
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    def status(self) -> int | None:
        """The status of the run once it is over, else None."""
        now_s = time.monotonic() - self._begun_s
        if self._process is None:
            over = self._signalled or now_s > self._plan.timeout_s
            return 0 if over else None
        code = self._process.poll()
        if code is not None:
            ended = code if code >= 0 else 128 - code
            return TIMED_OUT if self._expired_s < inf else ended
        if now_s > self._plan.timeout_s and self._expired_s == inf:
            self._expired_s = now_s
            self._process.terminate()
        return TIMED_OUT if now_s > self._expired_s + GOODBYE_S else None


def _limited(path: Path) -> Path:
    """The path with a longest packet: loopback would carry more than any other network."""
    return path if path.maxlen is not None else path.with_(maxlen=MTU - OVERHEAD_BYTES)


def _resolve(address: tuple[str, int]) -> SocketAddress:
    """The first address of a host. Raises LabError, also if the resolver does not answer in time."""

    async def look_up() -> SocketAddress:
        found = await resolve_within(AbortScope(), LOOKUP_S, *address, socket.AF_UNSPEC)
        return found[0][1]

    try:
        return asyncio.run(look_up())
    except IperfpyError as error:
        raise LabError(str(error)) from error


def _listen(address: SocketAddress) -> tuple[socket.socket, DatagramSocket]:
    """A TCP listener and a UDP socket at one port. Raises LabError."""
    reason: BaseException | None = None
    for _ in range(1 if address[1] else _ATTEMPTS):
        listener = socket.socket(family_of(address), socket.SOCK_STREAM)
        try:
            rebind_soon(listener)
            listener.bind(address)
            listener.listen(BACKLOG)
            # A port that the system chose for TCP may be taken in UDP: then another one is tried.
            datagrams = DatagramSocket.bound(listener.getsockname(), reuse=False)
            datagrams.size_buffers(BUFFER_BYTES)
            return listener, datagrams
        except (OSError, TransportError) as error:
            listener.close()
            reason = error
    assert reason is not None
    raise LabError(f"cannot listen: {system_reason(reason)}") from reason
