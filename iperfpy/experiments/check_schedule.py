"""The tests of a diagnosis as data: which ones, how long, how many bytes. Pure functions.

    opening        the idle path, then the first round of both directions: RTT and capacity are known then
    remainder      per direction: the ladder of UDP rates, then the other rounds, interleaved

A round is one test each of TCP, of KCP with BBR, and of UDP below TCP's rate; the orders A B C and A C B take
turns, so that a path that changes steadily favours none. The ladder's rungs are shuffled for the same reason.

The total time is fixed beforehand. Setting a test up and taking it down costs round trips (`Timing`), so a
longer path leaves less for measuring, and below a least length the schedule has fewer tests instead of
shorter ones (`FORMS`).
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from iperfpy.diagnosis import ladder
from iperfpy.experiments.serial_tests import ACK_SHARE, CONTROL_BYTES, SHORTEST_S, TrafficBudget
from iperfpy.plan import Direction

TCP, KCP, UDP = "tcp", "kcp-bbr", "udp"
"""The transports of a round: the kernel's, the same kind of controller over UDP, and plain datagrams."""
BULK = (TCP, KCP)

DIRECTIONS = (Direction.FORWARD, Direction.REVERSE)

LADDER = ladder.SHARES
"""Rates of the rungs, as shares of the estimated capacity."""
SHORT_LADDER = (0.25, 0.75, 0.90, 1.00, 1.25)

BELOW_TCP = 0.9
"""Rate of a round's UDP test, as a share of the rate of its TCP test."""

LONG_RTT_S = 0.150
"""Round-trip time above which a diagnosis takes twice as long."""


class StepPart(enum.StrEnum):
    """The purpose of a test."""

    IDLE = "idle"
    BULK = "bulk"
    UDP = "udp"
    RUNG = "rung"


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One test of the schedule.

    Parameters
    ----------
    part, direction, transport : see there
    seconds : planned time of data
    round : 1, 2, ...; 0: the test belongs to no round
    share : rate as a share of the capacity (rungs), or of TCP's rate in the round (UDP); 0: no rate
    limit_bytes : most bytes of IP packets that it may send, 0: no limit
    pause_s : seconds without load before the data, setting the test up included
    """

    part: StepPart
    direction: Direction
    transport: str
    seconds: float
    round: int = 0
    share: float = 0.0
    limit_bytes: int = 0
    pause_s: float = 0.0

    def load(self, capacity_bps: float) -> float:
        """Bytes of IP packets that it is expected to send over a path of that capacity."""
        return 0.0 if self.part is StepPart.IDLE else self.seconds * capacity_bps / 8 * (self.share or 1.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Time that one test takes beside its data: `round_trips` of the path, and `seconds` of both programs.

    Measured between two programs of this version: connection, greeting, parameters and streams before the
    data, the end, the results and the farewell after it.
    """

    round_trips: float = 6.0
    seconds: float = 0.08

    def overhead_s(self, rtt_s: float) -> float:
        """Seconds of one test without its data."""
        return self.round_trips * rtt_s + self.seconds


def cost_s(step: CheckStep, overhead_s: float) -> float:
    """Seconds that the step takes with its pause, and `overhead_s` for setting it up and ending it."""
    return step.seconds + max(overhead_s, step.pause_s)


@dataclass(frozen=True, slots=True)
class Scale:
    """The lengths of a diagnosis, in seconds.

    Parameters
    ----------
    total, total_long : whole diagnosis, and the same above `LONG_RTT_S`
    idle : the idle path
    rung, least_rung : a rung of the ladder, and the shortest one
    pause : longest pause before a rung that overloads the path
    further, most_further : rungs that each direction has time for beyond those of the ladder, and the most
        that it gets if there is time
    bulk, least_bulk : a test of a round, and the shortest one
    quick : True if one round and the short ladder are enough
    """

    total: float = 60.0
    total_long: float = 120.0
    idle: float = 1.5
    rung: float = 1.5
    least_rung: float = 0.5
    pause: float = 1.0
    further: int = 1
    most_further: int = 6
    bulk: float = 5.0
    least_bulk: float = 0.8
    quick: bool = False

    def total_for(self, rtt_s: float) -> float:
        """Seconds of the whole diagnosis on a path of that round-trip time."""
        return self.total_long if rtt_s > LONG_RTT_S else self.total


FULL = Scale()
QUICK = Scale(
    total=20.0,
    total_long=20.0,
    idle=1.0,
    rung=1.0,
    least_rung=0.3,
    pause=0.4,
    further=0,
    most_further=2,
    bulk=3.0,
    quick=True,
)

RUNG_ROUND_TRIPS, BULK_ROUND_TRIPS = 4, 15
"""Shortest tests in round trips: a rung's queue must fill, and a controller must leave its start."""
LADDER_SHARE = 0.45
"""Part of the time for data that the ladder gets, unless its rungs reach their full length before."""


@dataclass(frozen=True, slots=True)
class Form:
    """The tests of one direction: the number of rounds, the ladder, the reliable transports of a round, and
    True if a round has a test of UDP as well."""

    rounds: int
    ladder: tuple[float, ...]
    bulk: tuple[str, ...] = BULK
    udp: bool = True

    @property
    def round_tests(self) -> int:
        """Number of tests of one round."""
        return len(self.bulk) + self.udp

    @property
    def tests(self) -> int:
        """Number of tests of one direction."""
        return len(self.ladder) + self.rounds * self.round_tests


FORMS = (
    Form(3, LADDER),
    Form(3, SHORT_LADDER),
    Form(2, SHORT_LADDER),
    Form(1, SHORT_LADDER),
    Form(1, (0.50, 0.90, 1.25)),
    Form(1, (0.50, 0.90, 1.25), udp=False),
    Form(1, (0.90, 1.25), (TCP,), udp=False),
)
QUICK_FORMS = FORMS[3:]
"""Forms of a diagnosis, the best one first; the last one is used if none fits."""


def usable(known: Sequence[str], *, quick: bool = False) -> list[Form]:
    """The forms with the transports that are known, the best one first."""
    every = QUICK_FORMS if quick else FORMS
    return [replace(form, bulk=tuple(name for name in form.bulk if name in known)) for form in every]


@dataclass(frozen=True, slots=True)
class FormLengths:
    """A form with the seconds of its tests."""

    form: Form
    rung: float
    bulk: float


def rung_step(scale: Scale, direction: Direction, share: float, seconds: float) -> CheckStep:
    """One rate of the ladder; a pause before it fills the buckets that it is to overload."""
    pause_s = min(scale.pause, ladder.pause_s(share, 1.0))
    return CheckStep(StepPart.RUNG, direction, UDP, seconds, share=share, pause_s=pause_s)


def _ladder_cost_s(form: Form, scale: Scale, overhead_s: float) -> float:
    """Seconds that the rungs of one direction take beside their data, with the reserve for further ones."""
    steps = [rung_step(scale, Direction.FORWARD, share, 0.0) for share in form.ladder]
    steps += [rung_step(scale, Direction.FORWARD, max(LADDER), 0.0)] * scale.further
    return sum(cost_s(step, overhead_s) for step in steps)


def lengths(scale: Scale, rtt_s: float, timing: Timing, known: Sequence[str] = BULK) -> FormLengths:
    """The best form with tests that are long enough in the time of the scale.

    Parameters
    ----------
    rtt_s : idle round-trip time
    known : transports of the server; a form leaves the others out
    """
    least_rung = max(scale.least_rung, RUNG_ROUND_TRIPS * rtt_s)
    least_bulk = max(scale.least_bulk, BULK_ROUND_TRIPS * rtt_s)
    overhead_s = timing.overhead_s(rtt_s)
    found = None
    for form in usable(known, quick=scale.quick):
        round_tests, rungs = form.rounds * form.round_tests, len(form.ladder) + scale.further
        free_s = (scale.total_for(rtt_s) - scale.idle - overhead_s) / 2
        free_s -= round_tests * overhead_s + _ladder_cost_s(form, scale, overhead_s)
        rung = min(scale.rung, LADDER_SHARE * free_s / rungs, (free_s - round_tests * least_bulk) / rungs)
        rung = max(rung, least_rung)
        bulk = min(max(scale.bulk, least_bulk), (free_s - rungs * rung) / round_tests)
        found = FormLengths(form, rung, bulk)
        if bulk >= least_bulk:
            return found
    assert found is not None, "there is at least one form"
    # Too long a path for the time: the least form, at its least lengths, takes longer than promised.
    return replace(found, bulk=least_bulk)


def replanned(
    planned: FormLengths, left_s: float, overhead_s: float, scale: Scale, rtt_s: float
) -> FormLengths:
    """The lengths for the rest of the time, when the first rounds have shown the cost of a test.

    Three rounds tell UDP from TCP, and two do not. So the ladder shrinks first, then the tests of the later
    rounds get shorter, down to the shortest ones that count, and only then a round is left out.

    Parameters
    ----------
    left_s : seconds from now to the promised end
    overhead_s : measured, of one test
    """
    least = max(scale.least_rung, RUNG_ROUND_TRIPS * rtt_s)
    least_bulk = min(planned.bulk, max(scale.least_bulk, BULK_ROUND_TRIPS * rtt_s))
    forms = [form for form in usable(planned.form.bulk) if form.tests <= planned.form.tests]
    forms = [form for form in forms if form.bulk == planned.form.bulk]

    def fitted(form: Form, shortest: float) -> FormLengths | None:
        """The form, with later rounds of tests of that length at least; None if there is no time for it."""
        later, rungs = (form.rounds - 1) * form.round_tests, len(form.ladder) + scale.further
        free_s = left_s / 2 - _ladder_cost_s(form, scale, overhead_s) - later * overhead_s
        bulk = min(planned.bulk, (free_s - rungs * least) / later) if later else planned.bulk
        rung = min(max(scale.rung, least), (free_s - later * bulk) / rungs)
        # Sums that fit exactly may be a hair too long in binary numbers.
        fits = bulk >= shortest - 1e-9 and rung >= least - 1e-9
        return FormLengths(form, max(rung, least), bulk) if fits else None

    for rounds in sorted({form.rounds for form in forms}, reverse=True):
        for shortest in (planned.bulk, least_bulk):
            for form in forms:
                if form.rounds == rounds and (found := fitted(form, shortest)) is not None:
                    return found
    return FormLengths(forms[-1], least, planned.bulk)


def idle_step(scale: Scale, transport: str = UDP) -> CheckStep:
    """The test of the idle path: a few datagrams, and the echoes that the receiver sends back."""
    return CheckStep(StepPart.IDLE, Direction.FORWARD, transport, scale.idle)


def round_steps(direction: Direction, number: int, planned: FormLengths) -> list[CheckStep]:
    """The tests of a round, in order: TCP first, because the rate of UDP follows it."""
    form, seconds = planned.form, planned.bulk
    first, *others = (CheckStep(StepPart.BULK, direction, name, seconds, number) for name in form.bulk)
    udp = [CheckStep(StepPart.UDP, direction, UDP, seconds, number, BELOW_TCP)] if form.udp else []
    return [first, *others, *udp] if number % 2 else [first, *udp, *others]


def opening(planned: FormLengths) -> list[CheckStep]:
    """The first round of both directions."""
    return [step for direction in DIRECTIONS for step in round_steps(direction, 1, planned)]


def remainder(planned: FormLengths, scale: Scale, seed: int = 1) -> list[CheckStep]:
    """The tests after the first rounds, by direction: the ladder, then the rounds. `seed` shuffles the
    ladders."""
    steps: list[CheckStep] = []
    for direction in DIRECTIONS:
        shares = list(planned.form.ladder)
        random.Random(seed + len(steps)).shuffle(shares)
        steps += [rung_step(scale, direction, share, planned.rung) for share in shares]
        for number in range(2, planned.form.rounds + 1):
            steps += round_steps(direction, number, planned)
    return steps


def seconds_of(steps: Sequence[CheckStep], overhead_s: float) -> float:
    """Seconds that the steps take, each with its pause and its overhead."""
    return sum(cost_s(step, overhead_s) for step in steps)


def bytes_of(steps: Iterable[CheckStep], capacity_bps: dict[Direction, float]) -> float:
    """Bytes of IP packets that the steps are expected to send."""
    return sum(step.load(capacity_bps.get(step.direction, 0.0)) for step in steps)


# -- the budget of bytes

OPENING_SHARE = 0.5
"""Part of the budget for the first rounds, which may not need it: the capacity is not known yet."""
TELLING = (1.25, 0.50, 0.90, 1.00, 0.25, 0.75, 1.10, 0.10)
"""Rungs in the order in which a small budget keeps them: an overload, then loss and delay without one."""


def limited(step: CheckStep, budget: TrafficBudget) -> CheckStep:
    """The step, which may not send more than is left."""
    if not budget.total_bytes or step.part is StepPart.IDLE:
        return step
    left_bytes = max(1, budget.left_bytes - CONTROL_BYTES)
    return replace(step, limit_bytes=min(step.limit_bytes or left_bytes, left_bytes))


def opening_within(steps: Sequence[CheckStep], budget: TrafficBudget) -> list[CheckStep]:
    """The first rounds, each test with an equal share of `OPENING_SHARE` of the budget."""
    if not budget.total_bytes:
        return list(steps)
    each = int(budget.left_bytes * OPENING_SHARE / max(1, len(steps))) - CONTROL_BYTES
    return [replace(step, limit_bytes=max(1, each)) for step in steps]


def remainder_within(
    steps: Sequence[CheckStep], budget: TrafficBudget, capacity_bps: dict[Direction, float]
) -> tuple[list[CheckStep], list[CheckStep]]:
    """The steps that the rest of the budget pays for, and the ones left out.

    All steps are shortened alike. Where that makes them shorter than `SHORTEST_S`, whole rounds are left out,
    the last one first, then rungs of both directions, the least telling one first.
    """
    if not budget.total_bytes:
        return list(steps), []
    kept = list(steps)
    out: list[CheckStep] = []
    while kept:
        wanted = bytes_of(kept, capacity_bps)
        left_bytes = budget.left_bytes / (1 + ACK_SHARE) - CONTROL_BYTES * len(kept)
        factor = min(1.0, left_bytes / wanted) if wanted else 1.0
        if factor * min(step.seconds for step in kept) >= SHORTEST_S or factor == 1.0:
            shortened = (replace(step, seconds=step.seconds * factor) for step in kept)
            return [_with_limit(step, capacity_bps) for step in shortened], out
        # Rounds have numbers, rungs have none.
        last = max((step.round for step in kept), default=0)
        dropped = [step for step in kept if step.round == last] if last else [max(kept, key=_rank)]
        kept = [step for step in kept if step not in dropped]
        out += dropped
    return kept, out


def _rank(step: CheckStep) -> tuple[int, float]:
    """Place of a rung in `TELLING`; of several in the same place, the one with more bytes is the last."""
    return TELLING.index(step.share) if step.share in TELLING else len(TELLING), step.load(1.0)


def _with_limit(step: CheckStep, capacity_bps: dict[Direction, float]) -> CheckStep:
    """The step with a limit of its expected bytes, so that a faster one leaves the later ones theirs."""
    return replace(step, limit_bytes=max(1, int(step.load(capacity_bps.get(step.direction, 0.0)))))
