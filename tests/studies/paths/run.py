"""Runs one simulation and reduces it to plain figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.simulator.application import Bulk
from iperfpy.protocols.simulator.path import wire_bytes
from iperfpy.protocols.simulator.simulation import Simulation
from tests.peers.cubic import Cubic
from tests.studies.paths.ablation import without
from tests.studies.paths.cases import Case, Kind, Stage
from tests.studies.paths.watched import SECOND, Snapshot, Watched, bbr_engine, single, watch

J = TypeVar("J")
R = TypeVar("R")
SETTLED_S = 5.0
LATE_S = 15.0
FAIR = 0.95
"""Jain's index above which two flows count as converged."""
_LATE_WINDOW_S = 4.0
_QUEUED = 1.25
"""Largest ratio of mean to base round-trip time at which a flow counts as settled after a change."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one simulation: shares of 1, times in seconds or round trips, depending on the kind of
    case. `without`: the mechanism of BBR that was off (ablation.py), if any."""

    line: str
    name: str
    seed: int
    values: dict[str, float]
    without: str = ""

    def fields(self) -> dict[str, Any]:
        """Give the fields for a file; `without` only if a mechanism was off."""
        found = asdict(self)
        if not self.without:
            del found["without"]
        return found


def run(case: Case, seed: int, off: str = "") -> Outcome:
    """Run one simulation. `off`: key of the mechanism of BBR that is switched off for it."""
    with without(off):
        return Outcome(case.line, case.name, seed, _RUNNERS[case.kind](case, seed), off)


def _solo(case: Case, seed: int) -> dict[str, float]:
    watched = single(case.forward, case.backward, seed, case.seconds)
    return {**steady(watched, case), **_start(watched, case)}


def steady(watched: Watched, case: Case) -> dict[str, float]:
    """Figures after the first five seconds, from the sender's counters and from the simulator. `excess`
    (retransmissions above drops) covers the whole run, because segments dropped at the start are
    retransmitted later; drops of the last round trip are left out, because their retransmissions have not
    been sent yet."""
    stretch, whole = watched.between(SETTLED_S, case.seconds), watched.between(0.0, case.seconds)
    cause = watched.between(0.0, case.seconds - case.rtt_us / 1e6).truth
    truth, segments = stretch.truth, max(1, stretch.segments)
    rate = case.forward.rate_bits_per_s
    service_us = wire_bytes(1_400) * 8e6 / rate if rate else 0.0
    return {
        "goodput": _received(stretch.first, stretch.last) / case.limit_bits_per_s,
        "excess": whole.retransmitted / max(1, whole.segments) - cause.dropped_share,
        "dropped": truth.dropped_share,
        "spurious": stretch.spurious / max(1, stretch.retransmitted),
        "spurious_sent": stretch.spurious / segments,
        "rtt": stretch.mean_rtt_us / (case.rtt_us + service_us),
    }


def _start(watched: Watched, case: Case) -> dict[str, float]:
    """Find the time at which the receiver's rate, over a round trip and at least 0.2 s, reaches 90 % of the
    limit."""
    snapshots = watched.snapshots
    step = max(2, round(case.rtt_us / 1e5))
    at_s = case.seconds
    for first, last in zip(snapshots, snapshots[step:], strict=False):
        if _received(first, last) >= 0.9 * case.limit_bits_per_s:
            at_s = first.now_us / 1e6
            break
    rtt_s = case.rtt_us / 1e6
    return {"start_rtts": at_s / rtt_s, "start_late_rtts": max(0.0, at_s - 0.5) / rtt_s}


def _received(first: Snapshot, last: Snapshot) -> float:
    """Compute the rate of arrivals at the receiver, in order or not, in bits per second."""
    return 8e6 * (last.received - first.received) / (last.now_us - first.now_us)


def _steps(case: Case, seed: int) -> dict[str, float]:
    simulation = Simulation(seed)
    sender, receiver = bbr_engine(seed), bbr_engine(seed)
    forward, backward = simulation.link(case.forward), simulation.link(case.backward)
    flow = simulation.flow(sender, receiver, forward, backward, Bulk(sender))
    watched = watch(simulation, flow, sender, receiver)
    simulation.run(int(case.seconds * SECOND))
    ends = [stage.at_s for stage in case.stages[1:]] + [case.seconds]
    return {
        "settle_s": max(
            settling(watched.snapshots, stage, end_s) for stage, end_s in zip(case.stages, ends, strict=True)
        )
    }


def settling(snapshots: list[Snapshot], stage: Stage, end_s: float) -> float:
    """Find the seconds until the receiver's rate over half a second, or two round trips, is within a tenth of
    the limit with a queue that the table allows, and its average stays there until the end of the stage."""
    within = [one for one in snapshots if stage.at_s * 1e6 <= one.now_us <= end_s * 1e6]
    step = max(5, round(2 * stage.rtt_us / 1e5))
    last = within[-1]
    for first, after in zip(within, within[step:], strict=False):
        samples = max(1, after.rtt_samples - first.rtt_samples)
        rtt_us = (after.rtt_sum_us - first.rtt_sum_us) / samples
        rate, rest = _received(first, after), _received(first, last)
        near = min(rate, rest) >= 0.9 * stage.limit_bits_per_s and rate <= 1.1 * stage.limit_bits_per_s
        if near and rtt_us <= _QUEUED * (stage.rtt_us + 1_000):
            return first.now_us / 1e6 - stage.at_s
    return end_s - stage.at_s


def together(
    case: Case, seed: int, makers: list[Callable[[int], Engine]], starts_s: list[float]
) -> list[Watched]:
    """Run several flows over one bottleneck."""
    simulation = Simulation(seed)
    forward, backward = simulation.link(case.forward), simulation.link(case.backward)
    flows = []
    for at, (make, start_s) in enumerate(zip(makers, starts_s, strict=True)):
        number = 100 * seed + at
        sender, receiver = make(number), make(number)
        start_us = int(start_s * SECOND)
        flow = simulation.flow(sender, receiver, forward, backward, Bulk(sender), start_us=start_us)
        flows.append(watch(simulation, flow, sender, receiver))
    simulation.run(int(case.seconds * SECOND))
    return flows


def jain(rates: Iterable[float]) -> float:
    """Compute Jain's fairness index: 1 if all rates are equal, 1/n if one flow has everything."""
    values = list(rates)
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def _fair(case: Case, seed: int) -> dict[str, float]:
    starts_s = [0.1 * at for at in range(case.flows)]
    flows = together(case, seed, [bbr_engine] * case.flows, starts_s)
    stretches = [watched.between(SETTLED_S, case.seconds) for watched in flows]
    rates = [stretch.goodput_bits_per_s for stretch in stretches]
    return {
        "jain": jain(rates),
        "shared_goodput": sum(rates) / case.limit_bits_per_s,
        "shared_rtt": sum(stretch.mean_rtt_us for stretch in stretches) / len(stretches) / case.rtt_us,
    }


def _late(case: Case, seed: int) -> dict[str, float]:
    flows = together(case, seed, [bbr_engine] * 2, [0.0, LATE_S])
    at_s, step_s = LATE_S, 0.5
    while at_s + _LATE_WINDOW_S <= case.seconds:
        window = (at_s, at_s + _LATE_WINDOW_S)
        if jain(flow.between(*window).goodput_bits_per_s for flow in flows) >= FAIR:
            break
        at_s += step_s
    return {"converged_s": at_s - LATE_S}


def cubic_engine(number: int) -> Engine:
    """Make an engine with CUBIC over our loss recovery, as a stand-in for a kernel's TCP."""
    engine = bbr_engine(number)
    engine.steer(Cubic())
    return engine


def classic_engine(number: int) -> Engine:
    """Make an engine like kcp-go's KCP with its congestion control on."""
    return stock(number, KcpSettings(nc=0))


RIVALS: dict[str, Callable[[int], Engine]] = {"cubic": cubic_engine, "classic": classic_engine}


def _rival(case: Case, seed: int) -> dict[str, float]:
    """Compare our goodput with the max-min fair share: half, plus the part that the other flow could not use
    alone."""
    make = RIVALS[case.rival]
    alone = together(case, seed, [make], [0.0])[0]
    ours, theirs = together(case, seed, [bbr_engine, make], [0.0, 0.1])
    wanted = alone.between(SETTLED_S, case.seconds).goodput_bits_per_s
    fair = case.limit_bits_per_s - min(case.limit_bits_per_s / 2, wanted)
    reached = ours.between(SETTLED_S, case.seconds).goodput_bits_per_s
    left = theirs.between(SETTLED_S, case.seconds).goodput_bits_per_s
    return {
        "share": reached / fair,
        "rival_alone": wanted / case.limit_bits_per_s,
        "rival_share": left / min(case.limit_bits_per_s / 2, wanted),
    }


_RUNNERS: dict[Kind, Callable[[Case, int], dict[str, float]]] = {
    Kind.SOLO: _solo,
    Kind.STEPS: _steps,
    Kind.FAIR: _fair,
    Kind.LATE: _late,
    Kind.RIVAL: _rival,
}


Job = tuple[Case, int, str]
"""A case, a seed, and the key of the mechanism that is off, or an empty string."""


def _run(job: Job) -> Outcome:
    return run(*job)


def run_all(jobs: Iterator[Job], processes: int) -> Iterator[Outcome]:
    """Run the jobs in `processes` processes, and yield outcomes as they finish."""
    return spread(jobs, processes, _run)


def spread(jobs: Iterator[J], processes: int, work: Callable[[J], R]) -> Iterator[R]:
    """Do the work for every job in `processes` processes, and yield results as they finish. Jobs are taken
    one by one."""
    if processes == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        running = {pool.submit(work, job) for job in islice(jobs, processes)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, job) for job in islice(jobs, len(finished))}
            yield from (future.result() for future in finished)
