"""The paths, in the words of the emulator, and the limits that follow from them.

A path has a specification for each way ("rate=20M,delay=30ms") and changes of it. Times are seconds since the
data of a run began. Letters name the kinds:

    L  random loss that begins in mid-test      R  a rate that changes all the time (LTE)
    A  a thin way back and a little loss        S  another path every few seconds (satellites)
    J  jitter that keeps the order              W  two ways of different length, packet by packet
    G  packets in lumps (Wi-Fi, cable)          M  datagrams of 1,400 bytes do not fit
    B  a buffer of some packets                 C  company that comes and goes;  D  very slow
    I  the first seconds: a whole default test
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

PAYLOAD_SHARE = 1376 / 1428
"""KCP's payload in a full packet of 1,428 bytes."""


@dataclass(frozen=True, slots=True)
class Change:
    """At `at_s` the way there has the rate and the loss given here; `spec` tells it to the emulator."""

    at_s: float
    way: str
    spec: str
    rate_mbit: float
    loss: float


Changes = Callable[[float], Sequence[Change]]
"""The changes of a path during a run of that many seconds."""


def _none(seconds: float) -> Sequence[Change]:
    return ()


@dataclass(frozen=True, slots=True)
class OddPath:
    """One row of the table.

    Parameters
    ----------
    name : its first letter is the kind
    rate_mbit, loss : of the way there when data begins; loss as a share
    there, back : the rest of the specification of each way
    rtt_ms : mean round-trip time of the path without any queue
    changes : the changes during a run
    since_change : the figures are of the time from the first change on
    wide : jitter so wide that the target is a share of the limit
    start : a whole default test, judged by its average and by its first second
    tcp_segment : segment size for TCP, bytes; 0: its own
    """

    name: str
    rate_mbit: float
    there: str
    back: str
    rtt_ms: float
    loss: float = 0.0
    changes: Changes = _none
    since_change: bool = False
    wide: bool = False
    start: bool = False
    tcp_segment: int = 0

    @property
    def forward_spec(self) -> str:
        """The way there, for the emulator."""
        return spec_of(self.rate_mbit, self.loss, self.there)

    def limit_mbit(self, seconds: float, from_s: float) -> float:
        """Mean of rate x (1 - loss) x payload share over [from_s, seconds]."""
        at_s, carries, total = 0.0, self.rate_mbit * (1 - self.loss), 0.0
        for change in (*self.changes(seconds), None):
            until_s = seconds if change is None else min(seconds, change.at_s)
            total += max(0.0, until_s - max(at_s, from_s)) * carries
            if change is not None:
                at_s, carries = change.at_s, change.rate_mbit * (1 - change.loss)
        return total / (seconds - from_s) * PAYLOAD_SHARE

    def measured_from_s(self, seconds: float) -> float:
        """Time from which a run of that length is measured: 5 s, or less of a short run; 0 of a start."""
        if self.start:
            return 0.0
        changes = self.changes(seconds)
        return changes[0].at_s if self.since_change and changes else min(5.0, seconds / 4)


def spec_of(rate_mbit: float, loss: float, rest: str) -> str:
    """A specification for the emulator. Loss is given always, so that a change can end it."""
    return f"rate={rate_mbit:g}M,loss={100 * loss:g},{rest}"


# -- changes


def _loss_step(loss: float) -> Changes:
    def changes(seconds: float) -> Sequence[Change]:
        at_s = min(6.0, 0.4 * seconds)
        return (Change(at_s, "ab", f"loss={100 * loss:g}", 20, loss),)

    return changes


def _loss_waves(seconds: float) -> Sequence[Change]:
    """10 % on and off every 5 s."""
    times = [float(at_s) for at_s in range(5, math.ceil(seconds), 5)] or [seconds / 2]
    return tuple(
        Change(at_s, "ab", f"loss={10 * (1 - index % 2)}", 20, 0.1 * (1 - index % 2))
        for index, at_s in enumerate(times)
    )


def _company(seconds: float) -> Sequence[Change]:
    """Another flow takes half of the rate every other second."""
    rates = ((float(at_s), 25.0 if at_s % 2 else 50.0) for at_s in range(1, math.ceil(seconds)))
    return tuple(Change(at_s, "ab", f"rate={rate:g}M", rate, 0) for at_s, rate in rates)


LTE_MEAN_MBIT, LTE_DEVIATION, LTE_MEMORY, LTE_PERIOD_S = 29.0, 0.6, 0.95, 0.1


def _lte(seconds: float) -> Sequence[Change]:
    """Each period the rate is the mean x exp(x), x a stationary AR(1) process. Equal in every run."""
    chance = random.Random(17)
    state, found = chance.gauss(0, LTE_DEVIATION), []
    shift = -(LTE_DEVIATION**2) / 2  # the mean of a log-normal variable is exp(m + s^2 / 2)
    for step in range(1, int(seconds / LTE_PERIOD_S)):
        state = LTE_MEMORY * state + chance.gauss(0, LTE_DEVIATION * math.sqrt(1 - LTE_MEMORY**2))
        rate = round(LTE_MEAN_MBIT * math.exp(state + shift), 2)
        found.append(Change(step * LTE_PERIOD_S, "ab", f"rate={rate:g}M", rate, 0))
    return tuple(found)


def _satellites(seconds: float) -> Sequence[Change]:
    """Every 15 s, or half of a short run, nothing for 0.2 s, then the other of two paths."""
    found, every_s = [], min(15.0, seconds / 2)
    for index in range(1, math.ceil(seconds / every_s)):
        at_s, rate, delay_ms = index * every_s, *((150.0, 34) if index % 2 else (100.0, 20))
        found.append(Change(at_s, "both", "loss=100", rate, 1.0))
        there = f"rate={rate:g}M,loss=0.5,delay={delay_ms}ms"
        found.append(Change(at_s + 0.2, "ab", there, rate, 0.005))
        found.append(Change(at_s + 0.2, "ba", f"loss=0,delay={delay_ms}ms", rate, 0.005))
    return tuple(found)


# -- the table

_HALF_30 = "delay=30ms,queue=1bdp"
_SPARE = "delay=10ms,queue=1bdp"


def odd_paths() -> Iterator[OddPath]:
    """Every row, in the order of the table."""
    for percent in (10, 20):
        name = f"L loss 0 to {percent} %"
        yield OddPath(name, 20, _HALF_30, "delay=30ms", 60, 0, _loss_step(percent / 100), since_change=True)
    yield OddPath("L loss 10 % every other 5 s", 20, _HALF_30, "delay=30ms", 60, 0, _loss_waves)
    for rate, back, loss in ((100, "5M", 0.005), (100, "2M", 0.005), (100, "1M", 0.02), (10, "0.1M", 0.0)):
        name = f"A {rate}/{back} {100 * loss:g} %"
        yield OddPath(name, rate, _SPARE, f"rate={back},delay=10ms,queue=50p", 20, loss)
    # All of the jitter lies on one way, so the round-trip time is uniform.
    for rate, least, most in ((50, 10, 20), (100, 2, 12), (50, 40, 90), (50, 5, 60), (100, 10, 110)):
        middle, half, rest = (least + most) / 2, (most - least) / 2, least / 2
        there = f"delay={middle - rest:g}ms,jitter={half:g}ms"
        name, wide = f"J {rate} {least} to {most} ms", (least, most) == (5, 60)
        yield OddPath(name, rate, there, f"delay={rest:g}ms", middle, wide=wide)
    yield OddPath("G 50 6 ms, back every 30 ms", 50, "delay=3ms", "delay=3ms,agg=30ms", 6 + 15)
    yield OddPath("G 50 4 ms, back every 30 ms", 50, "delay=2ms", "delay=2ms,agg=30ms", 4 + 15)
    lumps = "delay=2ms,agg=10ms/30ms"
    yield OddPath("G 50 4 ms, both 10 to 30 ms", 50, lumps, lumps, 4 + 2 * 10.8)
    yield OddPath("R 29 every 100 ms", LTE_MEAN_MBIT, "delay=25ms,queue=3M", "delay=25ms", 50, 0, _lte)
    jittery = "delay=20ms,jitter=2.5ms"
    yield OddPath("S 100 and 150", 100, f"{jittery},queue=1bdp", jittery, 48, 0.005, _satellites)
    yield OddPath("W 20 10 + 40 ms", 20, "delay=5ms,alt=40ms", "delay=5ms", 10 + 20)
    yield OddPath("W 50 20 + 60 ms", 50, "delay=10ms,alt=60ms", "delay=10ms", 20 + 30)
    narrow = "delay=20ms,queue=1bdp,maxlen=1280"
    yield OddPath("M 20 1,280 bytes", 20, narrow, "delay=20ms,maxlen=1280", 40, tcp_segment=1200)
    for packets in (10, 5):
        yield OddPath(f"B 100 {packets} packets", 100, f"delay=10ms,queue={packets}p", "delay=10ms", 20)
    yield OddPath("C 50 half of it every other 1 s", 50, _SPARE, "delay=10ms", 20, 0, _company)
    yield OddPath("D 0.032 100 packets", 0.032, "delay=25ms,queue=100p", "delay=25ms", 50)
    for rate, rtt, loss in ((20, 170, 0.0), (20, 170, 0.01), (100, 40, 0.0), (70, 50, 0.0)):
        way = f"delay={rtt / 2:g}ms"
        name = f"I {rate} {rtt} ms {100 * loss:g} %"
        yield OddPath(name, rate, f"{way},queue=1bdp", way, rtt, loss, start=True)
