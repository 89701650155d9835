"""The tests of `iperfpy latency`: messages over each transport, idle and beside loads, round after round.

    latency(host, ...)        blocks, gives a LatencyReport
    latency_async(host, ...)  awaitable, gives a LatencyReport
    LatencyRun                the run itself: `run`, `stop`, and the report at any time

Every round measures every row once. The order turns around with each round, so that a change of the path
meets all transports. A test that fails leaves its row; an error of the server ends the run, and the report
has everything that was measured before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypedDict, Unpack

from iperfpy import __version__
from iperfpy.api import blocking
from iperfpy.argument_types import checked
from iperfpy.control.plan_limits import LIMITS, check_plan
from iperfpy.errors import ConnectError, FaultError, IperfpyError, PeerError, PlanError, ProtocolError
from iperfpy.experiments.contender import Contender, contenders_of
from iperfpy.experiments.keyword_limits import MESSAGE_BYTES, MESSAGE_RATE, MESSAGE_TEST_US, ROUNDS
from iperfpy.experiments.message_probe import RAMP_S, BulkLoad, MessageTest, measure_messages
from iperfpy.experiments.serial_tests import Progress as TestProgress
from iperfpy.measure_keywords import (
    DiagnoseKeywords,
    bits_per_second,
    diagnose_options,
    message_plan_of,
    microseconds,
)
from iperfpy.options import ClientOptions
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import counted
from iperfpy.records import EndFacts, MessageTimes
from iperfpy.sampling.host import system_info
from iperfpy.sampling.latency_report import IDLE, OWN, LatencyReport, LatencyRow
from iperfpy.sampling.message_figures import figures
from iperfpy.sampling.way_split import Clocks, RowMessages, clocks_of

UP, DOWN, BOTH = "up", "down", "both"
WAYS = (UP, DOWN, BOTH)
SECONDS = 11.0
"""Time of the messages of a test: 100 a second have the 1,000 answers of P99 at some loss, too."""
ENDS_ALL = (ConnectError, PeerError, ProtocolError, FaultError)
"""Errors after which no other test can succeed either."""
AGAIN_S, PATIENCE_S = 0.5, 5.0
"""A server that is busy is asked again each `AGAIN_S`, for `PATIENCE_S`."""
OVERHEAD_S = 1.0
"""Time of a test beside its messages, for the announced total."""
REST_S = 0.5
"""Pause after a loaded test: the queues of the path drain."""

Progress = TestProgress["LatencyStep"]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LatencyStep:
    """A test of a round: the row that it belongs to."""

    contender: Contender
    size_bytes: int
    per_s: int
    load: Contender | None = None
    direction: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """The row of the result."""
        load = None if self.load is None else self.load.name
        return (self.contender.name, self.size_bytes, self.per_s, load, self.direction)

    @property
    def text(self) -> str:
        """The step in words."""
        load = ""
        if self.load is not None:
            way = "in both directions" if self.direction == BOTH else self.direction
            load = f", beside {self.load.name} {way}"
        messages = counted(self.per_s, "message")
        return f"{self.contender.name}: {messages} of {self.size_bytes} bytes per second{load}"


@dataclass(slots=True)
class _Rounds:
    """The rounds of a row until now. `loads`: payload rates of the load, by direction."""

    times: list[MessageTimes] = field(default_factory=list)
    loads: list[Mapping[str, float]] = field(default_factory=list)
    error: str = ""

    @property
    def load_rate(self) -> dict[str, float]:
        """Mean payload rate of the load, bits per second, by direction."""
        ways = sorted({way for one in self.loads for way in one})
        return {way: fmean(one[way] for one in self.loads if way in one) for way in ways}


class _OwnKeywords(TypedDict, total=False):
    settings: Sequence[str]  # --set
    sizes: Sequence[int]  # --size [100], bytes of a message
    rates: Sequence[int]  # --rate [100], messages per second; each pair with a size is measured
    seconds: float  # -t [11], of each test
    loads: Sequence[str]  # --load ["none", "own"]
    load_directions: Sequence[str]  # --load-direction ["up", "down"]; "both": at once
    load_rate: float | None  # -b, bits per second of the loads, 0: as much as they carry
    rounds: int  # --rounds [1], pooled
    owd: bool  # --owd, the clocks of both hosts are synchronised


class _Arguments(TypedDict, total=False):
    transports: str | Sequence[str]
    on_progress: OnProgress | None


class LatencyKeywords(_OwnKeywords, DiagnoseKeywords, total=False):
    """The keywords of `latency` and `latency_async`."""


def latency(
    host: str | ClientOptions,
    transports: Sequence[str] = (),
    *,
    on_progress: OnProgress | None = None,
    **keywords: Unpack[LatencyKeywords],
) -> LatencyReport:
    """Measure the latency of messages over several transports.

    Parameters
    ----------
    host : str or ClientOptions
        The server, or ready options that name it.
    transports : sequence of str
        As `--proto` has them, such as "tcp:bbr" or "kcp:fast"; empty: all that can carry messages.
    on_progress : callable, optional
        Called with a `Progress` at the start of each test, and once per second as it goes on.
    **keywords
        See `LatencyKeywords` and `DiagnoseKeywords`: sizes, rates, loads, rounds, port, family, ...

    Returns
    -------
    LatencyReport
        A row for each transport, size, rate and load.

    Raises
    ------
    IperfpyError
        A test failed, and nothing was answered before.
    RuntimeError
        An event loop is running in this thread: use `latency_async`.
    """
    return blocking("latency", latency_async(host, transports, on_progress=on_progress, **keywords))


async def latency_async(
    host: str | ClientOptions,
    transports: Sequence[str] = (),
    *,
    on_progress: OnProgress | None = None,
    **keywords: Unpack[LatencyKeywords],
) -> LatencyReport:
    """Measure the latency of messages; arguments, result and errors are those of `latency`."""
    checked({"transports": transports, "on_progress": on_progress}, _Arguments)
    run = _latency_run(host, transports, keywords)
    await run.run(on_progress)
    report = run.report()
    if run.error is not None and not report.measured:
        raise run.error
    return report


def _latency_run(
    host: str | ClientOptions, transports: Sequence[str], keywords: Mapping[str, Any]
) -> LatencyRun:
    """The run that the arguments mean. Raises `PlanError` and TypeError."""
    own = {name: value for name, value in keywords.items() if name in _OwnKeywords.__annotations__}
    options, tos = diagnose_options(host, {name: keywords[name] for name in keywords if name not in own})
    own = checked(own, _OwnKeywords)
    steps = steps_of(
        messengers(transports, own.get("settings", ())),
        sizes=own.get("sizes", (100,)),
        rates=own.get("rates", (100,)),
        loads=own.get("loads", (IDLE, OWN)),
        directions=own.get("load_directions", (UP, DOWN)),
    )
    seconds, rounds = own.get("seconds", SECONDS), own.get("rounds", 1)
    check_steps(steps, seconds)
    ROUNDS.check(rounds)
    load_rate = own.get("load_rate")
    if load_rate is not None:
        load_rate = bits_per_second("load_rate", load_rate)
        LIMITS["rate_bps"].check(load_rate)
    owd = own.get("owd", False)
    return LatencyRun(options, steps, seconds=seconds, rounds=rounds, load_rate=load_rate, tos=tos, owd=owd)


def messengers(words: Sequence[str] = (), settings: Sequence[str] = ()) -> tuple[Contender, ...]:
    """The transports that the words mean; none, or "all": every one that can carry messages.

    Raises
    ------
    PlanError
        A word is not understood, or a transport cannot carry messages.
    """
    if isinstance(words, str):  # its characters would be taken for transports
        words = words.split(",")
    able = [name for name, one in transports().items() if one.both_ways]
    found: list[str] = []
    for word in words:
        found += able if word.strip() == "all" else [word]
    chosen = contenders_of(found or able, settings, needs_rates=False)
    for one in chosen:
        if not one.transport.both_ways:
            raise PlanError(
                f"{one.name} cannot carry messages and their echoes (these can: {', '.join(able)})"
            )
    return chosen


def steps_of(
    contenders: Sequence[Contender],
    *,
    sizes: Sequence[int],
    rates: Sequence[int],
    loads: Sequence[str],
    directions: Sequence[str],
) -> list[LatencyStep]:
    """The tests of a round. Raises `PlanError` for a size, a rate, a direction or a load that is none."""
    for limit, numbers in ((MESSAGE_BYTES, sizes), (MESSAGE_RATE, rates)):
        for number in numbers:
            limit.check(number)
    for way in directions:
        if way not in WAYS:
            raise PlanError(f"the direction of a load is one of {', '.join(WAYS)}, not {way!r}")
    named = {word: _load_of(word) for word in loads if word not in (IDLE, OWN)}
    steps = []
    for size in sizes:
        for rate in rates:
            for word in loads:
                for way in ("",) if word == IDLE else directions:
                    for one in contenders:
                        load = None if word == IDLE else one if word == OWN else named[word]
                        steps.append(LatencyStep(one, size, rate, load, way))
    if not steps:
        raise PlanError("there is nothing to measure: sizes, rates and loads must not be empty")
    return steps


def check_steps(steps: Sequence[LatencyStep], seconds: float) -> None:
    """Raise `PlanError` unless each test of so many seconds is within the limits of a server."""
    MESSAGE_TEST_US.check(microseconds("seconds", seconds))
    for step in steps:
        transport = step.contender.transport
        keywords = {
            "settings": step.contender.settings,
            "seconds": seconds,
            "block_bytes": step.size_bytes,
        }
        check_plan(message_plan_of(transport, keywords, step.per_s), transport)


def _load_of(word: str) -> Contender:
    return contenders_of([word], needs_rates=False)[0]


class LatencyRun:
    """One run of all rounds. `run` runs it, once; `report` may be called at any time.

    Parameters
    ----------
    steps : the tests of a round
    seconds : time of the messages of each
    load_rate : bits per second of the loads, see `latency`
    owd : the clocks of both ends are synchronised, or one: their difference is not estimated
    """

    def __init__(
        self,
        options: ClientOptions,
        steps: Sequence[LatencyStep],
        *,
        seconds: float = SECONDS,
        rounds: int = 1,
        load_rate: float | None = None,
        tos: int = 0,
        owd: bool = False,
    ) -> None:
        self.error: IperfpyError | None = None
        self._options, self._steps, self._seconds = options, tuple(steps), seconds
        self._rounds, self._load_rate, self._tos, self._owd = rounds, load_rate, tos, owd
        self._rows: dict[tuple[object, ...], tuple[LatencyStep, _Rounds]] = {}
        self._warnings: dict[str, tuple[str, ...]] = {}
        self._server = EndFacts()
        self._stopped = ""
        self._tell: OnProgress | None = None
        self._begun_us, self._seconds_taken, self._unix_time = now_us(), 0.0, time.time()
        self._test: asyncio.Task[Any] | None = None

    @property
    def total_s(self) -> float:
        """Planned seconds of the whole run."""
        loaded = sum(step.load is not None for step in self._steps)
        once = len(self._steps) * (self._seconds + OVERHEAD_S) + loaded * (RAMP_S + REST_S)
        return self._rounds * once

    def stop(self, reason: str) -> None:
        """End the run now. The report has the tests that ended before, and `reason` as its error."""
        self._stopped = self._stopped or reason
        if self._test is not None:
            self._test.cancel()

    async def run(self, on_progress: OnProgress | None = None) -> None:
        """Run all rounds. It raises no error of a test: see `error`."""
        self._tell = on_progress
        self._begun_us, self._unix_time = now_us(), time.time()
        tests = len(self._steps) * self._rounds
        self._event(
            None,
            f"{counted(tests, 'test')} of {self._seconds:g} s, about {self.total_s:.0f} s",
            begins=True,
        )
        for number in range(self._rounds):
            steps = self._steps if number % 2 == 0 else self._steps[::-1]
            for step in steps:
                if self._stopped or self.error is not None:
                    break
                await self._take(step)
        self._seconds_taken = (now_us() - self._begun_us) / 1e6

    async def _take(self, step: LatencyStep) -> None:
        """Measure one row once more."""
        self._event(step, step.text, begins=True)
        try:
            times, load = await self._patiently(step)
        except IperfpyError as error:
            self._rounds_of(step).error = str(error)
            # The first test must succeed: else the server is not there, or cannot.
            if isinstance(error, ENDS_ALL) or not self._any_times:
                self.error = error
            return
        if times is not None:
            rounds = self._rounds_of(step)
            rounds.times.append(times)
            if load:
                rounds.loads.append(load)

    def _rounds_of(self, step: LatencyStep) -> _Rounds:
        return self._rows.setdefault(step.key, (step, _Rounds()))[1]

    @property
    def _any_times(self) -> bool:
        return any(rounds.times for _, rounds in self._rows.values())

    async def _patiently(self, step: LatencyStep) -> Any:
        """Run a test, again while the server is busy for a moment. Gives its times and its load's rate."""
        give_up_us = now_us() + round(PATIENCE_S * 1e6)
        while True:
            try:
                return await self._once(step)
            except (ConnectError, PeerError):
                if now_us() >= give_up_us or not self._any_times:
                    raise
            await asyncio.sleep(AGAIN_S)
            if self._stopped:
                return None, {}

    async def _once(self, step: LatencyStep) -> Any:
        wanted = MessageTest(
            step.contender.transport.name,
            step.contender.settings,
            size_bytes=step.size_bytes,
            per_s=step.per_s,
            seconds=self._seconds,
            load=self._load(step),
            tos=self._tos,
        )
        self._test = asyncio.ensure_future(measure_messages(self._options, wanted))
        try:
            while not self._test.done():
                await asyncio.wait({self._test}, timeout=1.0)
                self._event(step, step.text, begins=False)
            result = self._test.result()
        except asyncio.CancelledError:
            if self._stopped:  # by `stop`: the test has told the server
                return None, {}
            raise
        finally:
            if not self._test.done():
                self._test.cancel()
                await asyncio.gather(self._test, return_exceptions=True)
            self._test = None
        # Of the latest test of a transport: the numbers in a warning differ from test to test.
        self._warnings[step.contender.name] = result.warnings
        self._server = result.server
        if step.load is not None and not self._stopped:
            await asyncio.sleep(REST_S)
        return result.times, result.load_bits_per_second

    def _load(self, step: LatencyStep) -> BulkLoad | None:
        if step.load is None:
            return None
        rate: float | None = self._load_rate
        if rate is None and step.load.rate_bps:
            rate = step.load.rate_bps
        return BulkLoad(
            step.load.transport.name,
            step.load.settings,
            reverse=step.direction == DOWN,
            bidirectional=step.direction == BOTH,
            rate=rate,
        )

    def _event(self, step: LatencyStep | None, text: str, *, begins: bool) -> None:
        if self._tell is not None:
            elapsed_s = (now_us() - self._begun_us) / 1e6
            self._tell(TestProgress(step, text, begins, elapsed_s, max(self.total_s, elapsed_s), 0))

    def report(self) -> LatencyReport:
        """Everything that was measured so far."""
        kept = list(self._rows.values())
        clocks, ways = clocks_of([_tested(step, rounds) for step, rounds in kept], owd=self._owd)
        return LatencyReport(
            host=self._options.host,
            port=self._options.port,
            unix_time=self._unix_time,
            seconds=self._seconds_taken or (now_us() - self._begun_us) / 1e6,
            rounds=self._rounds,
            version=f"iperfpy {__version__}",
            system_info=system_info(),
            server_version=self._server.version,
            server_system_info=self._server.system_info,
            rows=tuple(self._row(*one, known) for one, known in zip(kept, clocks, strict=True)),
            ways=ways,
            warnings=tuple(f"{name}: {text}" for name, texts in self._warnings.items() for text in texts),
            error=self._stopped or str(self.error or ""),
            stopped=bool(self._stopped),
        )

    def _row(self, step: LatencyStep, rounds: _Rounds, clocks: Clocks) -> LatencyRow:
        """The row of the result. `clocks`: their difference in each round."""
        one = step.contender
        first = clocks[0] if clocks else None
        return LatencyRow(
            name=one.name,
            transport=one.transport.name,
            settings=dict(one.chosen),
            size_bytes=step.size_bytes,
            per_s=step.per_s,
            seconds=self._seconds,
            load=IDLE if step.load is None else step.load.name,
            direction=step.direction,
            figures=figures(*rounds.times, clocks=clocks),
            times=tuple(rounds.times),
            offset_us=None if first is None else first.at_us(rounds.times[0].begun_us),
            load_rate=rounds.load_rate,
            error=rounds.error,
        )


def _tested(step: LatencyStep, rounds: _Rounds) -> RowMessages:
    kind = (step.contender.name, step.size_bytes, step.per_s)
    return RowMessages(kind, step.load is None, rounds.times)
