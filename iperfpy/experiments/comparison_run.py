"""One comparison: rounds of tests in random order, until the answer is clear.

    contender --Turn--> compare_schedule --Plan--> SerialTests --Run--> bulk_figures --> ComparisonReport

A contender that cannot be measured is left out with a sentence, and the others go on. A failed test is
counted, and no statistic uses it. A server that goes away, or is busy, is waited for; if it does not come
back, the report has everything that was measured before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean, median

from iperfpy import __version__
from iperfpy.comparison.comparison_report import (
    ComparisonReport,
    ContenderFacts,
    MeasuredTest,
)
from iperfpy.errors import ConnectError, FaultError, IperfpyError, PeerError, PlanError, ProtocolError
from iperfpy.experiments import compare_schedule as schedule
from iperfpy.experiments import run_figures as figures
from iperfpy.experiments import serial_tests
from iperfpy.experiments.bulk_figures import measured_messages, measured_test
from iperfpy.experiments.check_schedule import BELOW_TCP, DIRECTIONS, Timing
from iperfpy.experiments.compare_schedule import Lengths, Turn
from iperfpy.experiments.contender import Contender
from iperfpy.experiments.measured_contenders import Key, MeasuredContenders, RoundCosts
from iperfpy.experiments.serial_tests import BUDGET_SPENT, BusyRetry, PlannedTest, SerialTests, TrafficBudget
from iperfpy.experiments.step_plans import INTERVAL_US, USUAL_SHARE
from iperfpy.measure_keywords import message_plan_of
from iperfpy.options import ClientOptions
from iperfpy.plan import WAYS, Direction, Plan
from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import counted, format_size
from iperfpy.sampling.host import system_info
from iperfpy.store.stored_run import Run

SHORT_PATIENCE_S = 4.0
"""Patience with a server that refuses one test: a stock server takes a moment to end the last one."""
ENDS_ALL = (ConnectError, PeerError, ProtocolError)
"""Errors that are about the server, not about one contender."""
MOST_SILENT = 3
"""Failed tests in a row after which the server is asked if it, and the path, are still there."""

HELLO_S, HELLO_BPS = 0.3, 1_000_000
"""The first test: it shows the round-trip time and the kind of the server, and loads nothing."""
PROBE_S, PROBE_ROUND_TRIPS, MOST_PROBE_S = 0.5, 8.0, 2.0
"""The test that estimates the bytes of a round: the kernel's own TCP leaves slow start in that time."""
PROBE_TIME_SHARE, PROBE_BUDGET_SHARE = 0.07, 1 / 8
"""Largest part of the time for these tests: a comparison without so much leaves them out, and its first round
tells the bytes. Largest part of a budget of bytes for them."""
ROUND_SPREAD = 0.05
"""Share by which a round may send more than the largest one before it: messages have no limit of bytes."""
TIME_SHARE = 0.97
"""Part of the time for which rounds are planned: a busy machine takes longer to set a test up."""

Progress = serial_tests.Progress[Turn]
"""A moment of a comparison."""
OnProgress = Callable[[Progress], None]
"""Called at the start of each test, and about ten times per second while it runs. An exception ends the
comparison, and is raised by the call that runs it."""


class Compare:
    """One comparison. `run` runs it, once; `report` may be called at any time.

    Parameters
    ----------
    options : the server, and how to reach it
    contenders : at least one
    directions : FORWARD, REVERSE, or both
    limit_s : most seconds of the whole comparison
    budget_bytes : most bytes of IP packets to send, 0: no limit
    seed : of the random order; None: by the clock
    tos : type-of-service byte of every data socket
    timing : cost of a test beside its data
    patience : with a server that went away, or is busy
    """

    def __init__(
        self,
        options: ClientOptions,
        contenders: Sequence[Contender],
        *,
        directions: Sequence[Direction] = DIRECTIONS,
        limit_s: float = schedule.DEFAULT_S,
        budget_bytes: int = 0,
        seed: int | None = None,
        tos: int = 0,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        patience: BusyRetry = BusyRetry(longest_s=60.0),  # noqa: B008 - frozen
    ) -> None:
        self._options = options
        self._contenders = tuple(contenders)
        self._directions = tuple(directions)
        self._limit_s = limit_s
        self._budget = TrafficBudget(budget_bytes)
        self._seed = seed if seed is not None else time.time_ns() // 1000 % (1 << 31)
        self._tos = tos
        self._timing = timing
        self._patience = patience
        short = replace(patience, longest_s=min(SHORT_PATIENCE_S, patience.longest_s))
        self._tests = SerialTests[Turn](self._budget, short, limit_s)
        self._found = MeasuredContenders()
        self._lengths = Lengths()
        self._limit_bytes: dict[Direction, int] = {}
        self._streak: list[Key] = []
        self._overheads_s: list[float] = []
        self._converged = False
        self._turn_s = 0.0

    @property
    def error(self) -> IperfpyError | None:
        """The error that ended the comparison early; None: none did, or the user stopped it."""
        return self._tests.error

    def stop(self, reason: str) -> None:
        """End the comparison now. The report has all tests until then, and `reason` as its error."""
        self._tests.stop(reason)

    async def run(self, on_progress: OnProgress | None = None) -> None:
        """Run the comparison. It raises no error of a test: see `error`."""
        with self._tests.running(on_progress):
            await self._measure()

    # -- the rounds

    async def _measure(self) -> None:
        rtt_s = await self._hello()
        if self._tests.over:
            return
        probed = await self._probe(rtt_s)
        bulk, messages = len(self._contenders) * len(self._directions), len(self._contenders)
        left_s = TIME_SHARE * (self._limit_s - self._tests.elapsed_s)
        overhead_s = self._overhead_s or self._timing.overhead_s(rtt_s)
        self._lengths = schedule.lengths(left_s, bulk, messages, rtt_s, overhead_s)
        self._limit_bytes = self._test_limit_bytes(rtt_s, probed)
        self._tests.remark(self._promise(rtt_s, bulk + messages, probed))
        number, costs = 1, RoundCosts()
        while not self._tests.over and self._has_room(costs):
            costs.begin(self._tests.elapsed_s, self._budget.spent_bytes)
            complete = await self._round(number)
            if self._tests.over or not self._is_left():
                break
            if not complete:
                break
            costs.end(self._tests.elapsed_s, self._budget.spent_bytes)
            self._turn_s = costs.longest_s / (bulk + messages)
            self._found.rounds = number
            if schedule.converged(self._decisive_rates()):
                self._converged = True
                break
            if number == 1 and self._has_room(costs):
                self._tests.remark(self._cost(costs))
            number += 1
        self._check_any()

    def _has_room(self, costs: RoundCosts) -> bool:
        """True if there is time for a further test, and there are bytes for a further round."""
        if not costs.seconds:
            return True
        if self._tests.elapsed_s + self._turn_s > self._limit_s:
            return False
        return (
            not self._budget.total_bytes or (1 + ROUND_SPREAD) * costs.most_bytes <= self._budget.left_bytes
        )

    def _is_left(self) -> bool:
        """True if any contender still takes part."""
        parts = (*self._directions, None)
        every = ((each, part) for each in range(len(self._contenders)) for part in parts)
        return any(key not in self._found.left_out for key in every)

    def _decisive_rates(self) -> list[list[float]]:
        """The rates whose medians must be known well: of the ranked contenders, or of all if none is."""
        ranked = [one for one in self._contenders if one.ranked] or self._contenders
        rates = (self._found.rates(one.name, way) for one in ranked for way in self._directions)
        return [one for one in rates if one]

    def _check_any(self) -> None:
        """Make it an error if nothing was measured: the reason of the first contender."""
        found = self._found
        failed = [one.failed for one in found.tests] + [one.failed for one in found.messages]
        if self._tests.over or not all(failed):
            return
        errors = [one.error for one in found.tests] + [one.error for one in found.messages]
        reasons = [*found.left_out.values(), *errors]
        self._tests.error = PlanError(next(iter(reasons), "no test was long enough for a rate"))

    async def _round(self, number: int) -> bool:
        """Run a round, as far as there is time for it. Returns True if it is complete."""
        follow = [place for place, one in enumerate(self._contenders) if self._follows(one)]
        turns = schedule.round_turns(len(self._contenders), self._directions, number, self._seed, follow)
        for turn in turns:
            # Every contender gets its first test. A later round that ends with the time had a random order.
            late = number > 1 and self._tests.elapsed_s + self._turn_s > self._limit_s
            if self._tests.over or late:
                return False
            if self._budget.spent:
                self._tests.remark(BUDGET_SPENT)
                return False
            if (turn.contender, turn.direction) not in self._found.left_out:
                await self._turn(turn)
        return True

    # -- one test

    async def _turn(self, turn: Turn) -> None:
        """Run one test, and decide on the meaning of its failure."""
        error = await self._attempt(turn)
        if error is None or self._tests.over:
            return
        if isinstance(error, PlanError):  # this machine, or this server, cannot run it
            self._leave_out(turn, error)
            return
        if not self._tests.answered and isinstance(error, (*ENDS_ALL, FaultError)):
            self._tests.error = error
            return
        self._streak.append((turn.contender, turn.direction))
        if isinstance(error, ENDS_ALL) or len(self._streak) >= MOST_SILENT:
            gone = await self._wait_for_server()
            if gone is not None:
                self._forget_streak()
                self._tests.error = gone
            if self._tests.over:
                return
            # The server is there: now the failure is the contender's own, or the test succeeds.
            error = await self._attempt(turn)
            if error is None:
                return
            self._streak = [(turn.contender, turn.direction)]
        if not self._found.has(self._contenders[turn.contender].name, turn.direction):
            self._leave_out(turn, error)

    async def _attempt(self, turn: Turn) -> IperfpyError | None:
        """Run a test, again if the server is busy for a moment. Returns its error, which is counted."""
        contender = self._contenders[turn.contender]
        test = self._planned(contender, turn.direction)
        if test is None:
            self._leave_out(turn, PlanError("no other contender shows the rate to send at"))
            return None
        text = f"round {turn.round}: {contender.name} {_part_name(turn.direction)}"
        self._tests.event(turn, text, begins=True)
        await self._tests.pause(self._lengths.pause_s)
        ended: list[Run] = []

        def take(run: Run, failure: IperfpyError | None) -> None:
            if failure is None and not self._tests.stopped:
                ended.append(run)

        error = await self._tests.patiently(test, turn, text, take)
        if error is not None:
            self._keep(turn, error.run or Run(), str(error))
        for run in ended:
            self._take(turn, run, test)
        return error

    def _take(self, turn: Turn, run: Run, test: PlannedTest) -> None:
        """Keep a test that ended well."""
        used = _unwanted_variant(run, self._contenders[turn.contender], turn.direction)
        if used:
            self._leave_out(turn, PlanError(used))
            return
        self._streak.clear()
        self._found.note(run, f"{self._contenders[turn.contender].name} {_part_name(turn.direction)}")
        self._found.witness = self._found.witness or _shortened(test)
        self._keep(turn, run)

    def _keep(self, turn: Turn, run: Run, error: str = "") -> None:
        """Keep the figures of a test, or its failure."""
        name, found = self._contenders[turn.contender].name, self._found
        started_s = max(0.0, self._tests.elapsed_s - figures.measured_s(run))
        if turn.direction is None:
            found.messages.append(measured_messages(run, name, turn.round, started_s, error))
        elif run.started is None:
            found.tests.append(MeasuredTest(name, turn.direction, turn.round, started_s, error))
        else:
            steady_from_s = self._lengths.startup_s
            found.tests.append(
                measured_test(
                    run,
                    name,
                    turn.direction,
                    turn.round,
                    started_s=started_s,
                    steady_from_s=steady_from_s,
                    error=error,
                )
            )

    def _follows(self, contender: Contender) -> bool:
        """True if its rate is a share of the rates of the others."""
        return not contender.transport.reliable and not contender.rate_bps

    def _rate_bps(self, contender: Contender, direction: Direction) -> int | None:
        """The payload rate of a contender, 0: as fast as it goes; None: there is nothing to go by.

        It stays the same in all rounds, so that their losses can be compared.
        """
        if not self._follows(contender):
            return contender.rate_bps
        own = [one for one in self._found.tests if one.contender == contender.name]
        earlier = [one.target_bits_per_second for one in own if one.direction is direction]
        if earlier and earlier[-1] > 0:
            return round(earlier[-1])
        rates = (self._found.rates(one.name, direction) for one in self._contenders if one.ranked)
        medians = [median(one) for one in rates if one]
        return round(BELOW_TCP * max(medians)) if medians else None

    def _planned(self, contender: Contender, direction: Direction | None) -> PlannedTest | None:
        """The test of a contender within the budget of bytes; None if no rate is known for it."""
        transport, options = contender.transport, self._options
        if direction is None:
            return PlannedTest(self._messages(contender), options)
        rate_bps = self._rate_bps(contender, direction)
        if rate_bps is None:
            return None
        limit_bytes = self._limit_bytes.get(direction, 0)
        if limit_bytes:
            limit_bytes = min(limit_bytes, max(1, self._budget.left_bytes - serial_tests.CONTROL_BYTES))
        seconds = self._lengths.test_s
        if rate_bps and limit_bytes:
            seconds = min(seconds, limit_bytes * USUAL_SHARE * 8 / rate_bps)
        plan = Plan(
            transport.name,
            contender.settings,
            direction,
            duration_us=max(1, round(seconds * 1e6)),
            block_bytes=transport.block_bytes(contender.settings),
            fits_path=True,
            rate_bps=rate_bps,
            interval_us=INTERVAL_US,
            tos=self._tos,
        )
        test = PlannedTest(plan, options, limit_bytes, transport.reliable)
        return _of_amount(test, limit_bytes) if limit_bytes and not rate_bps else test

    def _test_limit_bytes(self, rtt_s: float, probed: dict[Direction, float]) -> dict[Direction, int]:
        """Bytes of IP packets that each test of bulk data in a direction may send; empty: no limit.

        So many that a test outlasts its start-up, at the rate of the probe or at the contender's own one.
        """
        if not self._budget.total_bytes:
            return {}
        seconds = min(self._lengths.test_s, schedule.least_test_s(rtt_s))
        # A direction whose probe failed may be as fast as the other one.
        fastest = max(probed.values(), default=0.0)
        wanted_bytes = []
        for way in self._directions:
            rate = max(one.rate_bps or probed.get(way, fastest) for one in self._contenders)
            wanted_bytes.append(round(rate / 8 * seconds / USUAL_SHARE))
        limits = schedule.limit_bytes_of(self._budget.left_bytes, len(self._contenders), wanted_bytes)
        return dict(zip(self._directions, limits, strict=True))

    def _messages(self, contender: Contender) -> Plan:
        """Messages of a contender over the idle path."""
        keywords = {
            "settings": contender.settings,
            "seconds": self._lengths.message_s,
            "block_bytes": schedule.MESSAGE_BYTES,
            "tos": self._tos,
        }
        return message_plan_of(contender.transport, keywords, schedule.MESSAGES_PER_S)

    # -- the server

    async def _hello(self) -> float:
        """A small test of the kernel's own transport. Returns the idle round-trip time, seconds; 0: not
        known. A path that carries none of its data may still carry other contenders."""
        default = next(iter(transports().values()))
        settings = default.settings()
        plan = Plan(
            default.name,
            settings,
            self._directions[0],
            duration_us=round(HELLO_S * 1e6),
            block_bytes=default.block_bytes(settings),
            rate_bps=HELLO_BPS,
            interval_us=INTERVAL_US,
            tos=self._tos,
        )
        hello = PlannedTest(plan, self._options)
        runs = await self._aside(hello, "the idle path")
        if not runs:
            return 0.0
        self._found.note(runs[-1])
        self._found.witness = hello
        return (runs[-1].latency.idle_rtt_us or 0.0) / 1e6

    async def _probe(self, rtt_s: float) -> dict[Direction, float]:
        """Estimate the rate of each direction, IP bits per second; empty if there is no time for it, if every
        contender has a rate of its own, or if the path carries no such test."""
        witness, found = self._found.witness, dict[Direction, float]()
        if witness is None:
            return {}
        seconds = min(MOST_PROBE_S, max(PROBE_S, PROBE_ROUND_TRIPS * rtt_s))
        long = seconds * len(self._directions) > PROBE_TIME_SHARE * self._limit_s
        if long or all(one.rate_bps for one in self._contenders):
            await self._aside(witness, "cost of a test")
            return {}
        for way in self._directions:
            test = self._probe_test(witness, way, round(seconds * 1e6))
            for run in await self._aside(test, f"estimate of the bytes {WAYS[way]}"):
                if rate := figures.settled_bps(run, way):
                    found[way] = rate
        return found

    def _probe_test(self, witness: PlannedTest, way: Direction, longest_us: int) -> PlannedTest:
        """A test of the kind of the witness at full speed, within its part of the budget of bytes."""
        plan = replace(witness.plan, direction=way, duration_us=longest_us, rate_bps=0)
        if not self._budget.total_bytes:
            return replace(witness, plan=plan)
        limit_bytes = int(PROBE_BUDGET_SHARE * self._budget.total_bytes / len(self._directions))
        return _of_amount(replace(witness, plan=plan), limit_bytes)

    async def _aside(self, test: PlannedTest, text: str) -> list[Run]:
        """Run a test that does not count in the comparison. An error about the server ends the comparison."""
        if self._tests.over:
            return []
        ended: list[Run] = []

        def take(run: Run, failure: IperfpyError | None) -> None:
            if failure is None:
                ended.append(run)

        turn = Turn(-1, test.plan.direction, 0)
        self._tests.event(turn, text, begins=True)
        begun_s = self._tests.elapsed_s
        error = await self._tests.patiently(test, turn, text, take)
        if isinstance(error, (*ENDS_ALL, PlanError)):
            self._tests.error = error
        if ended:
            self._overheads_s.append(self._tests.elapsed_s - begun_s - figures.measured_s(ended[-1]))
        return ended

    @property
    def _overhead_s(self) -> float:
        """Seconds of a test beside its data, as the probes show it; 0: not known. The first test of a program
        is slower than the others."""
        known = self._overheads_s[1:]
        return mean(known) if known else 0.0

    async def _wait_for_server(self) -> IperfpyError | None:
        """Ask for a while if the server, and the path to it, are still there. Returns the error if not."""
        witness = self._found.witness
        if witness is None:
            return None
        turn = Turn(-1, witness.plan.direction, 0)
        return await self._tests.patiently(
            witness, turn, "waiting for the server", lambda run, failure: None, self._patience
        )

    def _leave_out(self, turn: Turn, error: IperfpyError) -> None:
        """Leave a part of a contender out: all parts without figures, if no stream could be opened."""
        name, found = self._contenders[turn.contender].name, self._found
        run = error.run
        opened = isinstance(error, PlanError) or (run is not None and run.started is not None)
        parts = (turn.direction,) if opened else (*self._directions, None)
        for part in parts:
            if part is turn.direction or not found.has(name, part):
                found.left_out[turn.contender, part] = str(error)
                found.forget_failures(name, part)
        where = (
            "" if not opened else f" {WAYS[turn.direction]}" if turn.direction is not None else " messages"
        )
        self._tests.remark(f"{name}{where} is left out: {error}")

    def _forget_streak(self) -> None:
        """Forget the contenders that were left out before the server was found to be gone."""
        gone = {contender for contender, _ in self._streak}
        for key in [key for key in self._found.left_out if key[0] in gone]:
            del self._found.left_out[key]

    # -- telling

    def _promise(self, rtt_s: float, tests: int, probed: dict[Direction, float]) -> str:
        """The cost of the comparison in time and bytes, as far as it is known before the first round."""
        lengths = self._lengths
        several = lengths.rounds > 1
        rounds = f"{'up to ' if several else ''}{counted(lengths.rounds, 'round')}"
        cost = f", {lengths.round_s:.0f} s each" if several else f": {lengths.round_s:.0f} s"
        text = (
            f"the round-trip time is {rtt_s * 1e3:.1f} ms, {rounds} of {counted(tests, 'test')} of"
            f" up to {lengths.test_s:.1f} s{cost}"
        )
        # A first round is completed, however long it takes; the last test of a later one may take longer.
        if lengths.round_s <= self._limit_s:
            text += f", about {self._limit_s:.0f} s in all"
        if self._budget.total_bytes:
            return f"{text}, at most {format_size(self._budget.total_bytes)}"
        if not probed:
            return f"{text}; the bytes are known after the first round"
        # Stock KCP sends more than a path carries.
        each = sum(probed.values()) / 8 * lengths.test_s * len(self._contenders)
        size, most = format_size(each), format_size(each * lengths.rounds)
        return f"{text}; by a probe of TCP, at least about {size} a round, {most} in all"

    def _cost(self, costs: RoundCosts) -> str:
        """The cost of the further rounds, by the first one."""
        left_s = self._limit_s - self._tests.elapsed_s
        rounds = int(left_s / costs.longest_s) if costs.longest_s else 0
        if self._budget.total_bytes and costs.most_bytes:
            rounds = min(rounds, self._budget.left_bytes // costs.most_bytes)
        further, size = "no time for another whole round; single tests follow", format_size(costs.most_bytes)
        if rounds:
            further = f"up to {counted(rounds, 'more round')}, {format_size(rounds * costs.most_bytes)}"
        return f"the first round took {costs.longest_s:.0f} s and sent {size}: {further}"

    # -- the result

    def report(self) -> ComparisonReport:
        """Everything that was measured so far."""
        found = self._found
        started = found.first.started if found.first is not None else None
        told = figures.server_facts(found.first)
        remotes = (
            (plain_host(one.remote[0]) for one in started.connected) if started is not None else iter(())
        )
        return ComparisonReport(
            host=self._options.host,
            port=self._options.port,
            unix_time=self._tests.unix_time,
            seconds=self._tests.elapsed_s,
            limit_s=self._limit_s,
            sent_bytes=self._budget.spent_bytes,
            budget_bytes=self._budget.total_bytes,
            seed=self._seed,
            contenders=tuple(_facts(one) for one in self._contenders),
            directions=self._directions,
            tests=tuple(found.tests),
            messages=tuple(found.messages),
            rounds=found.rounds,
            test_s=self._lengths.test_s,
            startup_s=self._lengths.startup_s,
            rest_s=self._lengths.rest_s,
            converged=self._converged,
            left_out=found.reasons([one.name for one in self._contenders], self._directions),
            version=f"iperfpy {__version__}",
            system_info=system_info(),
            server_version=told.version,
            server_system_info=told.system_info,
            peer_is_iperfpy=started.peer_is_iperfpy if started is not None else None,
            address=next(iter(remotes), ""),
            warnings=found.warning_texts(),
            error=self._tests.stopped or str(self._tests.error or ""),
            stopped=bool(self._tests.stopped),
        )


def _part_name(direction: Direction | None) -> str:
    """`up`, `down` or `messages`."""
    return WAYS[direction] if direction is not None else "messages"


def _facts(one: Contender) -> ContenderFacts:
    return ContenderFacts(one.name, one.transport.name, dict(one.chosen), one.rate_bps, one.ranked)


def _of_amount(test: PlannedTest, limit_bytes: int) -> PlannedTest:
    """The test with an amount that ends it. The client ends it after the planned time at the latest."""
    plan = replace(test.plan, duration_us=0, total_bytes=max(1, round(limit_bytes * USUAL_SHARE)))
    options = replace(test.options, longest_us=test.plan.duration_us)
    return replace(test, plan=plan, options=options, limit_bytes=limit_bytes)


def _shortened(test: PlannedTest) -> PlannedTest:
    """A test of the same kind that sends next to nothing."""
    plan = replace(test.plan, duration_us=round(HELLO_S * 1e6), total_bytes=0, rate_bps=HELLO_BPS)
    return replace(test, plan=plan, options=replace(test.options, longest_us=0))


def _unwanted_variant(run: Run, contender: Contender, direction: Direction | None) -> str:
    """A sentence if the sender used another variant than the wanted one, as a server without it does."""
    key = contender.transport.variant
    wanted = contender.chosen.get(key)
    if direction is None or not wanted or key not in run.figures:
        return ""
    used = figures.sender_values(run, direction).get(key)
    if used is None and run.ended is not None:  # of a stock server
        used = run.ended.extra.get(f"sender_{contender.transport.iperf3.key}_{key}")
    if not isinstance(used, str) or not used or used == wanted:
        return ""
    return f"the sender's system has no {wanted}: it used {used}"
