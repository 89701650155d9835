"""Tests one after the other against one server, as every experiment of several tests needs them.

    SerialTests.patiently(test)   runs a test, again while the server is busy or away; gives its error
    TrafficBudget                 bytes of IP packets that all tests together may send
    Progress                      a moment of the experiment, for the user's eyes

The experiment decides which tests there are, and the meaning of a failed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from iperfpy.api import watch
from iperfpy.errors import ConnectError, IperfpyError, PathError, PeerError
from iperfpy.experiments import run_figures as figures
from iperfpy.options import ClientOptions
from iperfpy.plan import Plan
from iperfpy.protocols.clock import now_us
from iperfpy.store.stored_run import Interval, Run

S = TypeVar("S")

UNTOLD_ATTEMPTS = 2
"""Attempts after which the user is told: a stock server takes a moment to end a test."""
BUDGET_SPENT = "the budget of bytes is spent"

CONTROL_BYTES = 40_000
"""Bytes of a test beside its data: messages of the control connection, and the records of both ends."""
ACK_SHARE = 0.025
"""Bytes of acknowledgements, as a share of the data: KCP keeps to 2 to 2.5 %, TCP to less."""
SHORTEST_S = 0.3
"""Shortest test at all, where the time or the budget does not last for longer ones."""


@dataclass(frozen=True, slots=True)
class BusyRetry:
    """A server that is busy, or between two tests, is asked again each `again_s`, for `longest_s`."""

    again_s: float = 0.25
    longest_s: float = 4.0


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test that can be run.

    Parameters
    ----------
    plan, options : arguments of `watch`
    limit_bytes : most bytes of IP packets that it may send, 0: no limit
    acknowledged : True if the receiver acknowledges the data
    """

    plan: Plan
    options: ClientOptions
    limit_bytes: int = 0
    acknowledged: bool = True


@dataclass(frozen=True)  # no slots: a generic alias of such a class cannot be called (Python 3.11)
class Progress(Generic[S]):
    """A moment of an experiment.

    Parameters
    ----------
    step : the test that runs; None: a remark
    text : the step, or the remark, in words
    begins : True for the first event of a step, and for a remark
    elapsed_s, total_s : seconds since the beginning, and the planned ones of the whole experiment
    sent_bytes : bytes of IP packets sent so far
    """

    step: S | None
    text: str
    begins: bool
    elapsed_s: float
    total_s: float
    sent_bytes: int


class TrafficBudget:
    """Bytes of IP packets that an experiment may send. `total_bytes` 0: no limit.

    Attributes
    ----------
    spent_bytes : sent so far
    """

    def __init__(self, total_bytes: int = 0) -> None:
        self.total_bytes = total_bytes
        self.spent_bytes = 0

    @property
    def left_bytes(self) -> int:
        """Bytes that may still be sent; only with a limit."""
        return max(0, self.total_bytes - self.spent_bytes)

    @property
    def spent(self) -> bool:
        """True if nothing may be sent any more."""
        return self.total_bytes > 0 and not self.left_bytes

    def spend(self, data_bytes: int, *, acknowledged: bool = False) -> None:
        """Note a test that sent `data_bytes` in packets. Its messages, and its acknowledgements if it has
        any, come on top."""
        self.spent_bytes += CONTROL_BYTES + round(data_bytes * (1 + acknowledged * ACK_SHARE))


class SerialTests(Generic[S]):
    """The tests of one experiment. `running` is entered once.

    Parameters
    ----------
    budget : counts the bytes of all tests
    patience : with a server that is busy or away
    total_s : planned seconds of the whole experiment; may change as it goes on

    Attributes
    ----------
    error : the error that ended the experiment early; None: none did, or the user stopped it
    stopped : the user's reason for its end, else empty
    answered : True once a test has had figures
    unix_time : seconds since the epoch at which the experiment began
    """

    def __init__(self, budget: TrafficBudget, patience: BusyRetry, total_s: float) -> None:
        self.budget = budget
        self.patience = patience
        self.total_s = total_s
        self.error: IperfpyError | None = None
        self.stopped = ""
        self.answered = False
        self.unix_time = time.time()
        self._begun_us, self._ended_us = now_us(), 0
        self._ended = asyncio.Event()
        self._stop_test: Callable[[str], None] | None = None
        self._tell: Callable[[Progress[S]], None] | None = None

    @contextlib.contextmanager
    def running(self, tell: Callable[[Progress[S]], None] | None) -> Iterator[None]:
        """The time of the experiment. `tell` is called with its moments."""
        self._tell = tell
        self.unix_time, self._begun_us = time.time(), now_us()
        try:
            yield
        finally:
            self._ended_us = now_us()

    def stop(self, reason: str) -> None:
        """End the experiment and the running test now."""
        self.stopped = self.stopped or reason
        self._ended.set()
        if self._stop_test is not None:
            self._stop_test(reason)

    @property
    def over(self) -> bool:
        """True if no further test may begin."""
        return bool(self.stopped) or self.error is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning, up to the end."""
        return ((self._ended_us or now_us()) - self._begun_us) / 1e6

    async def pause(self, seconds: float) -> None:
        """Wait, or until the experiment is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._ended.wait()

    async def patiently(
        self,
        test: PlannedTest,
        step: S,
        text: str,
        take: Callable[[Run, IperfpyError | None], None],
        patience: BusyRetry | None = None,
    ) -> IperfpyError | None:
        """Run a test; again if the server is busy for a moment, or no data of an open stream arrived.

        Parameters
        ----------
        step, text : of the events that tell of it
        take : called with the run of every attempt that has figures, and its error
        patience : None: that of the experiment
        """
        patience = patience or self.patience
        give_up_us = now_us() + round(patience.longest_s * 1e6)
        for attempt in itertools.count(1):
            if self.over:  # stopped between two tests, or during a pause
                return None
            error = await self._attempt(test, step, text, take)
            if error is None or self.over:
                return None
            if not self._is_worth_another(error, attempt) or now_us() >= give_up_us:
                return error
            if attempt == UNTOLD_ATTEMPTS:
                self.remark(f"{error}: trying again for up to {patience.longest_s:.0f} s")
            await self.pause(patience.again_s)
        raise AssertionError("the attempts are endless")

    def _is_worth_another(self, error: IperfpyError, attempt: int) -> bool:
        """True if the same test may succeed now: a server was busy, or no data of an open stream arrived."""
        run = error.run
        if isinstance(error, (ConnectError, PeerError)):
            return self.answered and not (run is not None and run.rows)
        return isinstance(error, PathError) and attempt == 1 and run is not None and run.started is not None

    async def _attempt(
        self, test: PlannedTest, step: S, text: str, take: Callable[[Run, IperfpyError | None], None]
    ) -> IperfpyError | None:
        """Run one test once. Returns its error."""
        count, failure = _SentBytes(), None
        live = watch(test.options, test.plan)
        try:
            async with live:
                self._stop_test = live.stop
                async for interval in live:
                    sent_bytes = count.take(live.run, interval)
                    # An amount of payload limits the test already; this is for retransmissions.
                    if test.limit_bytes and sent_bytes > test.limit_bytes:
                        live.stop(BUDGET_SPENT)
                    self.event(step, text, begins=False, sent_bytes=sent_bytes)
        except IperfpyError as error:
            failure = error
        finally:
            self._stop_test = None
            self.budget.spend(count.total(live.run), acknowledged=test.acknowledged)
        if live.run.rows:
            self.answered = True
            take(live.run, failure)
        return failure

    # -- telling

    def remark(self, text: str) -> None:
        """Tell the user a sentence."""
        self.event(None, text, begins=True)

    def event(self, step: S | None, text: str, *, begins: bool, sent_bytes: int = 0) -> None:
        """Tell of a moment. `sent_bytes`: of the running test."""
        if self._tell is not None:
            sent_bytes += self.budget.spent_bytes
            self._tell(Progress(step, text, begins, self.elapsed_s, self.total_s, sent_bytes))


class _SentBytes:
    """Bytes of IP packets of one test: by its intervals as they come, by its summary in the end."""

    def __init__(self) -> None:
        self._sent = 0

    def take(self, run: Run, interval: Interval) -> int:
        """Add an interval; the bytes so far."""
        self._sent += figures.sent_bytes(run.started, interval.sums)
        return self._sent

    def total(self, run: Run) -> int:
        """The bytes of the whole test."""
        return max(self._sent, figures.sent_bytes(run.started, run.sums))
