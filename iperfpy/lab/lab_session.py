"""One run: makes the world, starts the keeper, and relays until the command has ended.

The signals of a terminal reach the command by themselves, because it is in the same process group. A signal
that another process sends to `iperfpy lab` is passed on to the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TextIO

import numpy as np

from iperfpy.errors import LabError
from iperfpy.lab import linux_calls
from iperfpy.lab.frame_ring import HEADER_BYTES, FrameRing
from iperfpy.lab.frame_sender import FrameSender
from iperfpy.lab.keeper import GOODBYE_S, MESSAGE_BYTES, TERMINAL_SIGNALS, Job, Keeper
from iperfpy.lab.lab_status import KILLED, TIMED_OUT, LabTime
from iperfpy.lab.process_priority import prefer_this_process
from iperfpy.lab.relay import JoinedWay, Relay
from iperfpy.lab.run_report import RunReport
from iperfpy.lab.way import MTU, Way
from iperfpy.lab.way_log import keep_logs
from iperfpy.lab.world import ENDS, World, make_world
from iperfpy.protocols.simulator.path import OVERHEAD_BYTES, Path

_LOOK_S = 0.1
"""Longest time until a signal is noticed."""
_FROM_PROCESS = 0
"""The kernel's SI_USER; a terminal's signal has another code."""
LONGEST_MTU = 65_535


@dataclass(frozen=True, slots=True)
class LabPlan:
    """A run to be made.

    text : the path in the user's words
    paths : both ways of it
    timeout_s : the command is ended after that time; infinity for never
    logs : an empty stream per way for its log in mahimahi's format, or None
    """

    text: str
    paths: tuple[Path, Path]
    job: Job
    seed: int = 1
    timeout_s: float = inf
    logs: tuple[TextIO | None, TextIO | None] = (None, None)


def mtu_of(paths: tuple[Path, Path]) -> int:
    """The MTU of both ends: 1,500, or the longest packet that the path lets pass, if that is more."""
    limits = [path.maxlen for path in paths]
    limits += [change.fields.get("maxlen") for path in paths for change in path.changes]
    longest = max((limit for limit in limits if limit is not None), default=0) + OVERHEAD_BYTES
    return min(LONGEST_MTU, max(MTU, longest))


def run(plan: LabPlan) -> RunReport:
    """Run the command over the path; the report has its status. This process moves into new namespaces.

    Raises
    ------
    ForbiddenError
        The system allows no namespaces.
    LabError
        The command did not start, or the run broke off.
    """
    with contextlib.ExitStack() as stack:
        world = make_world(mtu_of(plan.paths))
        stack.callback(world.close)
        ends = {end: world.open_end(end) for end in ENDS}
        for ring, _ in ends.values():
            stack.callback(ring.close)
        control, keeper = _start_keeper(plan, world)
        return _relayed(plan, world, ends, control, keeper)


def _start_keeper(plan: LabPlan, world: World) -> tuple[socket.socket, int]:
    """Fork the keeper; return the control socket and the keeper's process number."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dispositions = {int(number): signal.getsignal(number) for number in TERMINAL_SIGNALS}
    # Before the fork: a signal that comes as soon as the keeper is there must find them blocked. The keeper
    # sets the former mask again, because programs inherit it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    process = os.fork()
    if not process:
        ours.close()
        Keeper(theirs, world, plan.job, dispositions, mask).run()
    theirs.close()
    return ours, process


def _relayed(
    plan: LabPlan,
    world: World,
    ends: Mapping[str, tuple[FrameRing, FrameSender]],
    control: socket.socket,
    keeper: int,
) -> RunReport:
    """Relay until the keeper has ended. Raises LabError."""
    with contextlib.suppress(OSError):
        linux_calls.wake_punctually()
    prefer_this_process()
    clock = LabTime()
    ways = tuple(
        Way(path, seed, -HEADER_BYTES)
        for path, seed in zip(plan.paths, np.random.SeedSequence(plan.seed).spawn(2), strict=True)
    )
    logs = keep_logs(ways, plan.paths, plan.logs, plan.text)
    sources = [ends[end][0] for end in ENDS]
    sinks = [ends[end][1] for end in reversed(ENDS)]
    directions = [JoinedWay.of(*each) for each in zip(ways, sources, sinks, strict=True)]
    relay = Relay(directions, clock.now_us)
    course = _Course(control, clock, plan.timeout_s)
    try:
        while course.goes_on():
            _turn(relay, course, sources)
    finally:
        control.close()  # without it the keeper ends, and everything in there with it
        os.waitpid(keeper, 0)
    if course.failure is not None:
        raise course.failure
    assert course.status is not None
    for way in ways:
        way.write_log(course.ended_us)
    truths = (ways[0].truth, ways[1].truth)
    seconds = course.ended_us / 1e6
    return RunReport(
        plan.text,
        plan.seed,
        seconds,
        course.status,
        truths,
        HEADER_BYTES,
        relay.late,
        relay.why_unclean(world.lost()),
        tuple(log.error for log in logs if log.error is not None),
    )


def _turn(relay: Relay, course: _Course, sources: list[Any]) -> None:
    """Wait until something is due, and do it."""
    if not course.started:
        # The path stands still until the command begins.
        if select.select([course.control], [], [], _LOOK_S)[0]:
            course.hear()
        return
    if rest_us := relay.rest_us():
        time.sleep(rest_us / 1e6)
    wait_s = min(_LOOK_S, max(0.0, (relay.due_us() - course.clock.now_us()) / 1e6))
    ready, _, _ = select.select([*sources, course.control], [], [], wait_s)
    if course.control in ready:
        course.hear()
    relay.turn()


@dataclass(slots=True)
class _Course:
    """The state of a run, by the messages of its keeper.

    status : of the command, once it has ended
    failure : the reason why there is no status
    started : True from the beginning of the command on
    """

    control: socket.socket
    clock: LabTime
    timeout_s: float
    status: int | None = None
    failure: LabError | None = None
    ended_us: float = 0.0
    started: bool = False
    _closed: bool = False
    _expired: bool = False
    _warned_us: float = field(default=inf)

    def goes_on(self) -> bool:
        """Pass signals on, keep the deadline. True if the keeper still runs."""
        for number, from_process in _signals():
            # The command hears a terminal itself, once it runs.
            if self.started and from_process:
                self._send(number)
            elif not self.started:
                self.failure = LabError(f"stopped by {signal.Signals(number).name}", 128 + number)
                return False
        now_us = self.clock.now_us()
        if self.started and self.status is None and now_us > self.timeout_s * 1e6 and not self._expired:
            self._expired, self._warned_us = True, now_us
            self._send(signal.SIGTERM)
        if self.status is None and now_us > self._warned_us + GOODBYE_S * 1e6:
            self.status, self.ended_us = TIMED_OUT, now_us
            return False
        return not self._closed

    def hear(self) -> None:
        """Take a message of the keeper, or note its end."""
        data = self.control.recv(MESSAGE_BYTES)
        if not data:
            self._closed = True
            if self.status is None and self.failure is None:
                self.failure = LabError("the processes of the run were killed", KILLED)
            return
        message = json.loads(data)
        if message["event"] == "started":
            self.clock.begin()
            self.started = True
        elif message["event"] == "ended":
            self.status = TIMED_OUT if self._expired else int(message["status"])
            self.ended_us = self.clock.now_us()
        else:
            self.failure = LabError(message["reason"], int(message["status"]))

    def _send(self, number: int) -> None:
        with contextlib.suppress(OSError):  # the keeper has ended, which its socket tells
            self.control.send(json.dumps({"signal": number}).encode())


def _signals() -> Iterator[tuple[int, bool]]:
    """Signals since the last call; True for one that a process sent, False for one of the terminal."""
    while (info := signal.sigtimedwait(TERMINAL_SIGNALS, 0)) is not None:
        yield info.si_signo, info.si_code == _FROM_PROCESS
