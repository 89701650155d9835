"""Draws odd paths: a seed gives one path of one kind, or of two kinds at once.

    draw(7).forward, draw(7, pair=True).name

| letter | kind |
|---|---|
| L | random loss that begins in mid-test, ends again, or comes in waves |
| A | a thin way back, and a little loss |
| J | jitter that keeps the order |
| G | datagrams released in lumps, on the way back or on both ways |
| R | a rate that changes all the time, behind a large buffer |
| S | handovers: a short outage, then another rate, delay and loss |
| W | two ways of different length, packet by packet |
| B | a buffer of 5 to 10 datagrams |

The kind follows from the seed in turn, so that any run of neighbouring seeds covers the kinds evenly. All
other properties are random. Rate and base RTT are log-uniform. A path of two kinds has the properties of
both: losses and delays add up, and the smaller of two buffers counts.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from math import exp, inf, log

from iperfpy.protocols.simulator.path import Change, Lumps, Path, RateWalk, SecondWay, bdp_bytes, wire_bytes

RATES = (0.5e6, 1_000e6)
RTTS_US = (2e3, 600e3)
BUFFERS_BDP = (0.5, 5.0)
SMALLEST_BUFFER = 8
"""Smallest buffer of a bottleneck in datagrams, except for kind B."""
DATAGRAM = wire_bytes(1_400)
SHORTEST_S, LONGEST_S, RUN_RTTS = 30.0, 120.0, 100.0
SETTLED_S, SETTLED_RTTS = 5.0, 20.0
"""The figures leave this much of the beginning out, whichever is longer."""


@dataclass(frozen=True, slots=True)
class OddPath:
    """A drawn path. Times in seconds from the start of the run.

    kinds : one letter per kind; "C" and "D" are the two fixed cases, "P" a path that was given as a text
    rtt_us : least RTT without a queue at the start, microseconds
    mean_rtt_us : mean RTT without a queue, the largest over the run; lengths of time in round trips use it
    events_s : times of changes of loss, rate or delay in the time that counts; after an outage its end
    company_bits_per_s, company_period_s : rate of a second flow that is on and off for half a period each
    """

    kinds: str
    seed: int
    name: str
    forward: Path
    backward: Path
    rtt_us: float
    mean_rtt_us: float
    seconds: float
    events_s: tuple[float, ...] = ()
    company_bits_per_s: float = 0.0
    company_period_s: float = 0.0

    @property
    def settled_s(self) -> float:
        """The time from which the figures count."""
        return max(SETTLED_S, SETTLED_RTTS * self.mean_rtt_us / 1e6)

    @property
    def bdp_segments(self) -> float:
        """Bandwidth-delay product of the start, in full datagrams, by the least RTT."""
        return (self.forward.mean_bits_per_s or 0.0) * self.rtt_us / 8e6 / DATAGRAM


Steps = list[tuple[float, float]]
"""Times and the values from then on, the first at 0."""


def _at(steps: Steps, time_s: float) -> float:
    return steps[bisect_right(steps, (time_s, inf)) - 1][1]


@dataclass(slots=True)
class _Plan:
    """The properties of a path in the making; each kind adds its own.

    losses : components of the random loss of the way there
    outages_s : begin and end of each outage
    """

    rng: random.Random
    rate: float
    rtt_us: float
    buffer_bdp: float
    words: list[str] = field(default_factory=list)
    losses: list[Steps] = field(default_factory=list)
    rates: Steps = field(default_factory=list)
    rtts_us: Steps = field(default_factory=list)
    outages_s: list[tuple[float, float]] = field(default_factory=list)
    events_s: list[float] = field(default_factory=list)
    most_buffer: int | None = None
    extra_us: float = 0.0
    there: dict[str, object] = field(default_factory=dict)
    back: dict[str, object] = field(default_factory=dict)

    def between(self, low: float, high: float) -> float:
        """Draw log-uniformly."""
        return exp(self.rng.uniform(log(low), log(high)))

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    @property
    def mean_rtt_us(self) -> float:
        """Mean RTT without a queue, the largest over the run."""
        return max(rtt for _, rtt in self.rtts_us) + self.extra_us

    @property
    def seconds(self) -> float:
        return min(LONGEST_S, max(SHORTEST_S, RUN_RTTS * self.mean_rtt_us / 1e6))

    @property
    def settled_s(self) -> float:
        return max(SETTLED_S, SETTLED_RTTS * self.mean_rtt_us / 1e6)

    def loss_at(self, time_s: float) -> float:
        arrives = 1.0
        for steps in self.losses:
            arrives *= 1.0 - _at(steps, time_s)
        return 1.0 - arrives

    def add_jitter(self, way: dict[str, object], spread_us: float) -> None:
        known = way.get("jitter_us", 0.0)
        assert isinstance(known, float)
        way["jitter_us"] = known + spread_us
        self.extra_us += spread_us / 2


def _loss(plan: _Plan) -> None:
    """L: random loss that begins in mid-test."""
    loss, shape = plan.between(0.01, 0.25), plan.rng.choice(("begins", "begins", "ends again", "waves"))
    # The change comes early enough to be settled before the run ends, or before the next change.
    settled, room = plan.settled_s, plan.seconds - plan.settled_s
    start = settled + room * plan.rng.uniform(0.05, 0.4)
    if shape == "begins":
        steps = [(0.0, 0.0), (start, loss)]
        words = f"{100 * loss:.2g} % lost from {start:.1f} s"
    elif shape == "ends again":
        end = start + room * plan.rng.uniform(0.25, 0.35)
        steps = [(0.0, 0.0), (start, loss), (end, 0.0)]
        words = f"{100 * loss:.2g} % lost from {start:.1f} to {end:.1f} s"
    else:
        half = max(plan.between(3.0, 8.0), 10 * plan.mean_rtt_us / 1e6)
        times = [start + half * at for at in range(int((plan.seconds - start) / half) + 1)]
        steps = [(0.0, 0.0), *((time, 0.0 if at % 2 else loss) for at, time in enumerate(times))]
        words = f"{100 * loss:.2g} % lost from {start:.1f} s on, {half:.1f} s on and off"
    plan.losses.append(steps)
    plan.events_s += [time for time, _ in steps[1:]]
    plan.words.append(words)


def _thin_way_back(plan: _Plan) -> None:
    """A: a way back of a tenth to a hundredth of the rate, 100 kb/s at least, and a little loss."""
    rate = max(0.1e6, plan.rate / plan.between(10.0, 100.0))
    loss = plan.between(0.001, 0.02) if plan.chance(0.75) else 0.0
    buffer = max(bdp_bytes(rate, plan.mean_rtt_us, plan.between(*BUFFERS_BDP)), SMALLEST_BUFFER * DATAGRAM)
    plan.back |= {"rate_bits_per_s": rate, "buffer_bytes": buffer}
    plan.losses.append([(0.0, loss)])
    plan.words.append(f"{rate / 1e6:.3g} Mb/s back, {100 * loss:.2g} % lost")


def _jitter(plan: _Plan) -> None:
    """J: jitter of up to 11 times the base RTT, order kept."""
    spread = min(110e3, max(1e3, plan.rtt_us * plan.between(0.2, 11.0)))
    share = plan.rng.choice((1.0, 1.0, 0.5, 0.0))
    for way, part in ((plan.there, share), (plan.back, 1.0 - share)):
        if part:
            plan.add_jitter(way, spread * part)
    where = {1.0: "there", 0.5: "both ways", 0.0: "back"}[share]
    plan.words.append(f"up to {spread / 1e3:.3g} ms of jitter {where}")


def _lumps(plan: _Plan) -> None:
    """G: datagrams released in lumps, on the way back or on both ways, as on Wi-Fi and cable."""
    most = plan.between(3e3, 60e3)
    least = most * plan.rng.choice((1.0, plan.rng.uniform(0.2, 1.0)))
    ways = plan.rng.choice(((plan.back,), (plan.back,), (plan.there, plan.back)))
    for way in ways:
        way["lumps"] = Lumps(least, most)
        # A datagram waits for half of the gap that it falls into, and longer gaps catch more datagrams.
        plan.extra_us += (most**2 + most * least + least**2) / (most + least) / 3
    where = "back" if len(ways) == 1 else "both ways"
    plan.words.append(f"lumps every {least / 1e3:.3g} to {most / 1e3:.3g} ms {where}")


def _rate_walk(plan: _Plan) -> None:
    """R: the logarithm of the rate is an autoregressive process of first order, as the rate of a mobile
    network; the buffer is large."""
    walk = RateWalk(plan.between(50e3, 200e3), plan.rng.uniform(0.2, 0.6), plan.rng.uniform(0.8, 0.98))
    plan.there["rate_walk"] = walk
    plan.buffer_bdp = plan.between(2.0, 20.0)
    period = f"{walk.period_us / 1e3:.3g} ms"
    plan.words.append(f"rate walks every {period}, deviation {walk.deviation:.2f}, memory {walk.memory:.2f}")


def _second_way(plan: _Plan) -> None:
    """W: two ways of different length, on the way there or on both."""
    extra = min(100e3, max(2e3, plan.rtt_us * plan.between(0.3, 5.0)))
    share = plan.rng.choice((None, None, plan.rng.uniform(0.05, 0.5)))
    ways = plan.rng.choice(((plan.there,), (plan.there,), (plan.there, plan.back)))
    for way in ways:
        way["second_way"] = SecondWay(extra, share)
        plan.extra_us += extra * (0.5 if share is None else share)
    which = "every second datagram" if share is None else f"{100 * share:.0f} %"
    where = "there" if len(ways) == 1 else "both ways"
    plan.words.append(f"{which} {extra / 1e3:.3g} ms later {where}")


def _handovers(plan: _Plan) -> None:
    """S: every 10 to 20 s another satellite: a short outage, then another rate and delay; some loss, some
    jitter."""
    period, outage, loss = (
        plan.rng.uniform(10.0, 20.0),
        plan.rng.uniform(0.05, 0.3),
        plan.rng.uniform(0, 0.01),
    )
    plan.add_jitter(plan.there, plan.rtt_us * plan.rng.uniform(0.1, 0.3))
    plan.losses.append([(0.0, loss)])
    # The time of the first one within its period is random, and the last one leaves time to settle.
    start = plan.settled_s + plan.rng.uniform(1.0, period - 4.0)
    rate, rtt, words = plan.rate, plan.rtt_us, []
    while start < plan.seconds - 3.0:
        end = start + outage
        rate = min(RATES[1], max(RATES[0], plan.rate * plan.between(0.5, 2.0)))
        rtt = plan.rtt_us * plan.between(0.6, 1.7)
        plan.outages_s.append((start, end))
        plan.rates.append((end, rate))
        plan.rtts_us.append((end, rtt))
        plan.events_s.append(end)
        words.append(f"{rate / 1e6:.3g} Mb/s {rtt / 1e3:.3g} ms from {end:.1f} s")
        start += period
    plan.words.append(f"{100 * loss:.2g} % lost; {1e3 * outage:.0f} ms of nothing, then " + ", ".join(words))


def _buffer(plan: _Plan) -> None:
    """B: a buffer of 5 to 10 datagrams."""
    plan.most_buffer = plan.rng.randint(5, 10)
    plan.words.append(f"a buffer of {plan.most_buffer} datagrams")


_Kind = Callable[[_Plan], None]
KINDS: dict[str, _Kind] = {
    "L": _loss,
    "A": _thin_way_back,
    "J": _jitter,
    "G": _lumps,
    "R": _rate_walk,
    "S": _handovers,
    "W": _second_way,
    "B": _buffer,
}
"""Letter -> function that adds the kind to a plan."""
_ORDER = "JGWRSBAL"
"""Kinds that lengthen the run come before those that place events in it."""


def _shuffled_pairs() -> list[str]:
    pairs = ["".join(pair) for pair in combinations(KINDS, 2)]
    random.Random(1).shuffle(pairs)
    return pairs


PAIRS = _shuffled_pairs()


def kinds_of(seed: int, *, pair: bool = False) -> str:
    """Give the letters of the kinds of a seed's path."""
    return PAIRS[seed % len(PAIRS)] if pair else list(KINDS)[seed % len(KINDS)]


def draw(seed: int, *, pair: bool = False) -> OddPath:
    """Draw the path of a seed: of one kind, or of two with `pair`."""
    kinds = kinds_of(seed, pair=pair)
    rng = random.Random(f"odd path {kinds} {seed}")
    rate, rtt_us = (exp(rng.uniform(log(low), log(high))) for low, high in (RATES, RTTS_US))
    plan = _Plan(rng, rate, rtt_us, exp(rng.uniform(*map(log, BUFFERS_BDP))))
    plan.rates, plan.rtts_us = [(0.0, rate)], [(0.0, rtt_us)]
    for kind in sorted(kinds, key=_ORDER.index):
        KINDS[kind](plan)
    return _path(plan, kinds, seed)


def _path(plan: _Plan, kinds: str, seed: int) -> OddPath:
    """Make the path of a finished plan: every change of any property is a `Change` of its direction."""
    buffer = max(bdp_bytes(plan.rate, plan.mean_rtt_us, plan.buffer_bdp), SMALLEST_BUFFER * DATAGRAM)
    if plan.most_buffer is not None:
        buffer = plan.most_buffer * DATAGRAM
    seconds = plan.seconds
    times = {time for steps in (*plan.losses, plan.rates, plan.rtts_us) for time, _ in steps}
    times |= {time for outage in plan.outages_s for time in outage}

    def there(at_s: float) -> dict[str, object]:
        return {
            "rate_bits_per_s": _at(plan.rates, at_s),
            "delay_us": _at(plan.rtts_us, at_s) / 2,
            "loss": plan.loss_at(at_s),
            "down": any(start <= at_s < end for start, end in plan.outages_s),
        }

    def back(at_s: float) -> dict[str, object]:
        return {"delay_us": _at(plan.rtts_us, at_s) / 2}

    def way(fixed: dict[str, object], fields: Callable[[float], dict[str, object]]) -> Path:
        changes, known = [], fields(0.0)
        for at_s in sorted(times):
            now = fields(at_s)
            if 0.0 < at_s < seconds and now != known:
                new = {key: value for key, value in now.items() if value != known[key]}
                changes.append(Change(int(1e6 * at_s), new))
                known = now
        return Path(changes=tuple(changes)).with_(**fixed, **fields(0.0))

    forward, backward = way({"buffer_bytes": buffer, **plan.there}, there), way(plan.back, back)
    label = (
        f"{plan.rate / 1e6:.3g} Mb/s {plan.rtt_us / 1e3:.3g} ms {buffer / DATAGRAM:.0f} datagrams of buffer"
    )
    name = f"{kinds} {seed}: {label}; " + "; ".join(plan.words)
    # A handover that lengthens the run may lie before the time that counts.
    events = tuple(sorted({at_s for at_s in plan.events_s if plan.settled_s < at_s < seconds}))
    return OddPath(kinds, seed, name, forward, backward, plan.rtt_us, plan.mean_rtt_us, seconds, events)


def fixed_cases() -> list[OddPath]:
    """The cases C, company that comes and goes, and D, a very slow path."""
    rate, rtt_us = 50e6, 40e3
    there = Path(rate_bits_per_s=rate, buffer_bytes=bdp_bytes(rate, rtt_us), delay_us=rtt_us / 2)
    back = Path(delay_us=rtt_us / 2)
    name = "C: 50 Mb/s 40 ms, a second flow takes half of it, 1 s on and off"
    company = OddPath("C", 1, name, there, back, rtt_us, rtt_us, 60.0, (), rate / 2, 2.0)
    slow = Path(rate_bits_per_s=32e3, buffer_bytes=100 * DATAGRAM, delay_us=rtt_us / 2)
    name = "D: 32 kb/s 40 ms, 100 datagrams of buffer"
    return [company, OddPath("D", 1, name, slow, back, rtt_us, rtt_us, 120.0)]
