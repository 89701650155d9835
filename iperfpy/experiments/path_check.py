"""The diagnosis of a path: runs the tests of a schedule one after the other, and concludes from them.

    diagnose(host, ...)        blocks, gives a PathReport
    diagnose_async(host, ...)  awaitable, gives a PathReport
    PathCheck                  the run itself: `run`, `stop`, and the report at any time

    check_schedule -CheckStep-> step_plans -Plan-> SerialTests -Run-> MeasuredPath -evidence-> diagnosis

A transport that does not get through where another one does is a property of the path. Any other failure ends
the diagnosis, and the report has everything that was measured before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

from iperfpy import __version__
from iperfpy.api import blocking
from iperfpy.argument_types import checked
from iperfpy.diagnosis import both_ways, ladder
from iperfpy.diagnosis import direction as one_way
from iperfpy.diagnosis.path_report import DirectionReport, PathReport
from iperfpy.errors import ConnectError, FaultError, IperfpyError, PeerError, PlanError, ProtocolError
from iperfpy.experiments import check_schedule as schedule
from iperfpy.experiments import serial_tests
from iperfpy.experiments.check_schedule import CheckStep, FormLengths, Scale, StepPart, Timing
from iperfpy.experiments.keyword_limits import BUDGET_BYTES
from iperfpy.experiments.measured_path import MeasuredPath, Outcome
from iperfpy.experiments.serial_tests import (
    ACK_SHARE,
    BUDGET_SPENT,
    CONTROL_BYTES,
    BusyRetry,
    PlannedTest,
    SerialTests,
    TrafficBudget,
)
from iperfpy.experiments.step_plans import Prepared, prepared
from iperfpy.measure_keywords import (
    DiagnoseKeywords,
    DiagnosisKeywords,
    diagnose_options,
)
from iperfpy.options import ClientOptions
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.protocols.units import counted, format_rate, format_size
from iperfpy.sampling.host import system_info
from iperfpy.store.stored_run import Run

ENDS_ALL = (ConnectError, PeerError, PlanError, ProtocolError, FaultError)
"""Errors after which no other test can succeed either: none of them is about a data stream."""
MOST_SILENT = 3
"""Failures of a data stream in a row after which the path is taken for gone."""

OVERTIME = 1.1
"""Further rungs, asked for by an undecided ladder, may take the diagnosis to so much of its time."""

Progress = serial_tests.Progress[CheckStep]
"""A moment of a diagnosis."""
OnProgress = Callable[[Progress], None]
"""Called at the start of each test, and about ten times per second while it runs. An exception ends the
diagnosis, and is raised by the call that runs it."""


def diagnose(
    host: str | ClientOptions,
    *,
    quick: bool = False,
    budget_bytes: int = 0,
    on_progress: OnProgress | None = None,
    **keywords: Unpack[DiagnoseKeywords],
) -> PathReport:
    """Find the limits of the path to a server, in both directions.

    Parameters
    ----------
    host : str or ClientOptions
        The server, or ready options that name it.
    quick : bool
        Take 20 seconds instead of 60 (120 above 150 ms of round-trip time).
    budget_bytes : int
        Most bytes of IP packets to send, both directions together; 0: no limit.
    on_progress : callable, optional
        Called with a `Progress` at the start of each test, and as it goes on.
    **keywords
        See `DiagnoseKeywords`: port, bind, family, credentials, ...

    Returns
    -------
    PathReport
        Findings of each direction with their evidence, and everything that was measured.

    Raises
    ------
    IperfpyError
        The server could not be reached, or a test failed. Its attribute `diagnosis` has the report of
        everything that was measured until then.
    RuntimeError
        An event loop is running in this thread: use `diagnose_async`.
    """
    return blocking(
        "diagnose",
        diagnose_async(host, quick=quick, budget_bytes=budget_bytes, on_progress=on_progress, **keywords),
    )


async def diagnose_async(
    host: str | ClientOptions,
    *,
    quick: bool = False,
    budget_bytes: int = 0,
    on_progress: OnProgress | None = None,
    **keywords: Unpack[DiagnoseKeywords],
) -> PathReport:
    """Find the limits of a path; arguments, result and errors are those of `diagnose`.

    Cancelling it ends the running test at both ends.
    """
    own = {"quick": quick, "budget_bytes": budget_bytes, "on_progress": on_progress}
    budget_bytes = checked(own, DiagnosisKeywords)["budget_bytes"]
    BUDGET_BYTES.check(budget_bytes)
    options, tos = diagnose_options(host, keywords)
    scale = schedule.QUICK if quick else schedule.FULL
    check = PathCheck(options, scale, budget_bytes=budget_bytes, tos=tos)
    await check.run(on_progress)
    report = check.report()
    if check.error is not None:
        check.error.diagnosis = report
        raise check.error
    return report


class PathCheck:
    """One diagnosis. `run` runs it, once; `report` may be called at any time.

    Parameters
    ----------
    options : the server, and how to reach it
    scale : the lengths of the tests
    budget_bytes : most bytes of IP packets to send, 0: no limit
    tos : type-of-service byte of every data socket
    timing : cost of a test beside its data
    seed : shuffles the ladders
    patience : with a server that is busy or away
    """

    def __init__(
        self,
        options: ClientOptions,
        scale: Scale = schedule.FULL,
        *,
        budget_bytes: int = 0,
        tos: int = 0,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        seed: int = 1,
        patience: BusyRetry = BusyRetry(),  # noqa: B008 - frozen
    ) -> None:
        self._options = options
        self._scale = scale
        self._budget = TrafficBudget(budget_bytes)
        self._tests = SerialTests[CheckStep](self._budget, patience, scale.total)
        self._tos = tos
        self._timing = timing
        self._seed = seed
        self._path = MeasuredPath()
        self._not_checked: list[str] = []
        self._streak: list[tuple[str, tuple[Direction, ...], str]] = []
        self._failure: IperfpyError | None = None

    @property
    def error(self) -> IperfpyError | None:
        """The error that ended the diagnosis early; None: none did, or the user stopped it."""
        return self._tests.error

    # -- running

    def stop(self, reason: str) -> None:
        """End the diagnosis now. The report has all measurements until then, and `reason` as its error."""
        self._tests.stop(reason)

    async def run(self, on_progress: OnProgress | None = None) -> None:
        """Run the diagnosis. It raises no error of a test: see `error`."""
        with self._tests.running(on_progress):
            await self._measure()
        # Two failed tests end nothing: but if no direction has a figure, there is nothing to conclude from.
        if not self._tests.over and self._failure is not None and not self._measured:
            self._tests.error = self._failure
            self._forget_streak()

    @property
    def _measured(self) -> bool:
        """True if data of a test arrived in any direction."""
        return any(self._path.evidence(way) is not None for way in schedule.DIRECTIONS)

    async def _measure(self) -> None:
        scale, path = self._scale, self._path
        await self._run([schedule.idle_step(scale)])
        if not path.outcomes:  # datagrams do not get through: TCP tells of the idle path
            await self._run([schedule.idle_step(scale, schedule.TCP)])
        if self._tests.over or not path.outcomes:
            return
        rtt_s = path.rtt_s
        self._tests.total_s = scale.total_for(rtt_s)
        planned = schedule.lengths(scale, rtt_s, self._timing, self._known())
        if path.peer_is_iperfpy:
            for name in schedule.BULK:
                if name not in planned.form.bulk:
                    self._note(f"{name} (no time: tests over this path take long)")
        first = schedule.opening(planned)
        # A path may be too long for the least tests in that time: then it is said to take longer.
        overhead_s = self._timing.overhead_s(rtt_s)
        every = [*first, *schedule.remainder(planned, scale, self._seed)]
        needed_s = self._tests.elapsed_s + schedule.seconds_of(every, overhead_s)
        self._tests.total_s = max(self._tests.total_s, needed_s)
        self._tests.remark(self._promise(rtt_s, planned))
        begun_us = now_us()
        first = schedule.opening_within(first, self._budget)
        await self._run(first)
        # The first rounds have shown the cost of a test beside its data.
        overhead_s = max(0.0, ((now_us() - begun_us) / 1e6 - path.data_s()) / len(first))
        left_s = self._tests.total_s - self._tests.elapsed_s
        await self._rest(schedule.replanned(planned, left_s, overhead_s, scale, rtt_s), overhead_s)

    async def _rest(self, planned: FormLengths, overhead_s: float) -> None:
        """Run the ladders and the further rounds, as far as the budget pays for them."""
        if self._tests.over:
            return
        capacities = dict(self._path.capacities())
        for way in schedule.DIRECTIONS:
            if way not in capacities:
                limit = ", within the budget of bytes" if self._budget.total_bytes else ""
                self._note(f"{WAYS[way]} (no test was long enough for a rate{limit})")
        every = schedule.remainder(planned, self._scale, self._seed)
        wanted = [one for one in every if one.direction in capacities]
        steps, left_out = schedule.remainder_within(wanted, self._budget, capacities)
        self._note_left_out(left_out, planned)
        self._tests.total_s = self._tests.elapsed_s + schedule.seconds_of(steps, overhead_s)
        if steps:
            rates = ", ".join(f"{WAYS[way]} about {format_rate(rate)}" for way, rate in capacities.items())
            size = format_size(schedule.bytes_of(steps, capacities))
            left_s = self._tests.total_s - self._tests.elapsed_s
            self._tests.remark(
                f"{rates}: {_counted(steps)} in all, {left_s:.0f} s more, which send about {size}"
            )
        while steps and not self._tests.over:
            step = steps.pop(0)
            await self._run([step], capacities)
            # After the last rung of a direction, there may be one that is still missing.
            last = not any(one.part is StepPart.RUNG and one.direction is step.direction for one in steps)
            if step.part is StepPart.RUNG and last:
                missing = self._missing(step, capacities, steps, overhead_s)
                steps[:0] = missing
                self._tests.total_s += schedule.seconds_of(missing, overhead_s)

    def _missing(
        self,
        last: CheckStep,
        capacities: dict[Direction, float],
        rest: Sequence[CheckStep],
        overhead_s: float,
    ) -> list[CheckStep]:
        """Further rungs that the ladder asks for, if there is time and a budget for them.

        Parameters
        ----------
        last : latest rung of the direction
        rest : steps that are still to come
        """
        way, capacity = last.direction, capacities[last.direction]
        rungs = self._path.rungs(way)
        extra = len(rungs) - len({step.share for step, _ in rungs if step.share <= max(schedule.LADDER)})
        if self._tests.over or extra >= self._scale.most_further or self._path.ladder_is_done(way, capacity):
            return []
        rates = ladder.further([rung for _, rung in rungs])
        if not rates:
            return []
        steps = [schedule.rung_step(self._scale, way, rate / capacity, last.seconds) for rate in rates]
        left_s = self._scale.total_for(self._path.rtt_s) * OVERTIME - self._tests.elapsed_s
        left_bytes = self._budget.left_bytes - schedule.bytes_of(rest, capacities) * (1 + ACK_SHARE)
        left_bytes -= CONTROL_BYTES * (len(rest) + len(steps))
        if schedule.seconds_of([*steps, *rest], overhead_s) > left_s:
            self._note(f"{WAYS[way]}: UDP at {format_rate(rates[0])} (no time)")
            return []
        if self._budget.total_bytes and schedule.bytes_of(steps, capacities) > left_bytes:
            self._note(f"{WAYS[way]}: UDP at {format_rate(rates[0])} (the budget of bytes)")
            return []
        return steps

    async def _run(
        self, steps: Sequence[CheckStep], capacities: dict[Direction, float] | None = None
    ) -> None:
        """Run the steps until one ends everything."""
        for planned in steps:
            if self._tests.over:
                return
            if self._budget.spent:
                self._note(f"the rest ({BUDGET_SPENT})")
                return
            if (planned.transport, planned.direction) in self._path.blocked:
                continue
            step = schedule.limited(planned, self._budget)
            test = prepared(step, self._path, capacities or {}, self._options, self._tos)
            self._note(test.skipped or test.remark)
            if not test.skipped:
                self._tests.event(step, described(step), begins=True)
                # The path has been idle since the data of the last test; setting this one up takes time, too.
                await self._tests.pause(step.pause_s - self._timing.overhead_s(self._path.rtt_s))
                await self._test(step, test)

    async def _test(self, step: CheckStep, test: Prepared) -> None:
        """Run one test; again if the server is busy for a moment in the middle of the diagnosis."""

        def take(run: Run, failure: IperfpyError | None) -> None:
            self._path.outcomes.append(Outcome(step, run))
            if failure is None:
                self._streak.clear()

        planned = PlannedTest(test.plan, test.options, step.limit_bytes, step.part is StepPart.BULK)
        error = await self._tests.patiently(planned, step, described(step), take)
        if error is not None:
            self._failed(step, error)

    def _failed(self, step: CheckStep, error: IperfpyError) -> None:
        """Decide if the failure of a test ends the diagnosis."""
        # A stream that could not be opened tells nothing of the directions.
        unopened = error.run is None or error.run.started is None
        ways = schedule.DIRECTIONS if unopened else (step.direction,)
        self._failure = error
        name = step.transport if unopened else f"{step.transport} {WAYS[step.direction]}"
        self._streak.append((step.transport, ways, f"{name} ({error})"))
        if isinstance(error, ENDS_ALL) or len(self._streak) >= MOST_SILENT:
            self._tests.error = error
            self._forget_streak()
            return
        for way in ways:
            self._path.blocked[step.transport, way] = str(error)
        self._note(self._streak[-1][2])

    def _forget_streak(self) -> None:
        """Forget the failures before the one that ended the diagnosis: the path, or the server, was gone,
        which is no difference between transports."""
        for transport, ways, phrase in self._streak:
            for way in ways:
                self._path.blocked.pop((transport, way), None)
            if phrase in self._not_checked:
                self._not_checked.remove(phrase)

    def _known(self) -> tuple[str, ...]:
        """The reliable transports that this server can run over this path."""
        bulk = {name: transport_named(name) for name in schedule.BULK}
        # If the datagrams of the idle path were blocked, those of another transport are as well.
        ways = self._path.blocked
        if any(transport_named(name).over_udp for name, way in ways if way is Direction.FORWARD):
            return tuple(name for name, one in bulk.items() if not one.over_udp)
        if self._path.peer_is_iperfpy:
            return tuple(bulk)
        for name, one in bulk.items():
            if not one.iperf3.key:
                self._note(f"{name} (the server is a stock iperf3)")
        self._note("round-trip times under UDP load (the server is a stock iperf3, which sends no echoes)")
        return tuple(name for name, one in bulk.items() if one.iperf3.key)

    # -- telling

    def _note(self, phrase: str) -> None:
        """Add a phrase to the things that were not checked."""
        if phrase and phrase not in self._not_checked:
            self._not_checked.append(phrase)

    def _note_left_out(self, steps: Sequence[CheckStep], planned: FormLengths) -> None:
        rounds = {step.round for step in steps if step.round}
        rungs = sum(not step.round for step in steps)
        if rounds:
            self._note(f"{len(rounds)} of {planned.form.rounds} rounds (the budget of bytes)")
        if rungs:
            self._note(f"{rungs} of {2 * len(planned.form.ladder)} rates of UDP (the budget of bytes)")

    def _promise(self, rtt_s: float, planned: FormLengths) -> str:
        form = planned.form
        parts = f"{counted(len(form.ladder), 'rate')} of UDP and {counted(form.rounds, 'round')}"
        return (
            f"the round-trip time is {rtt_s * 1e3:.1f} ms: both directions take {self._tests.total_s:.0f} s"
            f" (per direction, at most {parts}; the first round shows how many fit)"
        )

    # -- the result

    def report(self) -> PathReport:
        """Conclude from all measurements so far."""
        path = self._path
        directions = tuple(
            DirectionReport(way, evidence, one_way.conclude(evidence))
            for way in schedule.DIRECTIONS
            if (evidence := path.evidence(way)) is not None
        )
        both = [one.diagnosis for one in directions]
        return PathReport(
            host=self._options.host,
            port=self._options.port,
            unix_time=self._tests.unix_time,
            seconds=self._tests.elapsed_s,
            sent_bytes=self._budget.spent_bytes,
            budget_bytes=self._budget.total_bytes,
            quick=self._scale.quick,
            version=f"iperfpy {__version__}",
            system_info=system_info(),
            server_version=path.server.version,
            server_system_info=path.server.system_info,
            peer_is_iperfpy=path.peer_is_iperfpy,
            address=path.address,
            idle=path.idle,
            directions=directions,
            both_ways=both_ways.conclude(*both) if len(both) == 2 else (),
            not_checked=tuple(self._not_checked),
            warnings=path.warnings,
            error=self._tests.stopped or str(self.error or ""),
            stopped=bool(self._tests.stopped),
        )


def described(step: CheckStep) -> str:
    """A test in words, for its progress."""
    if step.part is StepPart.IDLE:
        return "idle path"
    if step.part is StepPart.RUNG:
        return f"{WAYS[step.direction]}: UDP at {100 * step.share:.0f} % of the estimate"
    if step.part is StepPart.UDP:
        return f"{WAYS[step.direction]}: round {step.round}, UDP at {100 * step.share:.0f} % of TCP's rate"
    return f"{WAYS[step.direction]}: round {step.round}, {step.transport}"


def _counted(steps: Sequence[CheckStep]) -> str:
    """Name the numbers of tests of the steps that are left."""
    rungs = sum(step.part is StepPart.RUNG for step in steps)
    rounds = {(step.direction, step.round) for step in steps if step.round}
    words = [f"{counted(rungs, 'rate')} of UDP"] if rungs else []
    words += [counted(len(rounds), "more round")] if rounds else []
    return ", ".join(words)
