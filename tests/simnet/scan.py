"""Many runs at once: cases are plain records, results too, processes do the work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import log

from tests.simnet.measure import PAYLOAD_SHARE, Watched, single
from tests.simnet.path import Path, bdp_bytes, wire_bytes

SETTLED_S = 5.0
SMALLEST_BUFFER = 8
WINDOW = 65_535


@dataclass(frozen=True, slots=True)
class Case:
    """One flow over one path. `limit_bits_per_s` is the goodput that the path allows."""

    line: str
    name: str
    forward: Path
    backward: Path
    rtt_us: float
    limit_bits_per_s: float
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: shares of 1, times in seconds, the round-trip time against the empty path's."""

    line: str
    name: str
    seed: int
    goodput: float
    retransmitted: float
    dropped: float
    spurious: float
    rtt: float
    start_s: float
    noise: float
    late_s: float = 0.0

    @property
    def excess(self) -> float:
        """Retransmitted share above the share that the path really dropped."""
        return self.retransmitted - self.dropped


def link(rate: float, rtt_us: float, buffer_bdp: float, **fields: object) -> tuple[Path, Path]:
    """Forward and backward path with the propagation split evenly and a clean way back."""
    buffer = max(bdp_bytes(rate, rtt_us, buffer_bdp), SMALLEST_BUFFER * wire_bytes(1_400))
    forward = Path(rate_bits_per_s=rate, buffer_bytes=buffer, delay_us=rtt_us / 2)
    return forward.with_(**fields), Path(delay_us=rtt_us / 2)


def window_share(rate: float, rtt_us: float, loss: float) -> float:
    """How much of a path's capacity a window of 65,535 segments can use, at most 1.

    A segment holds the window from its first transmission until it and everything before it arrived.
    Repairs take 1.25 round trips each; among the n segments of a bandwidth-delay product the unluckiest
    is lost about ln n / ln(1/p) times.
    """
    bdp = rate * rtt_us / 8e6 / wire_bytes(1_400)
    if not loss or bdp <= 1:
        return min(1.0, WINDOW / bdp)
    return min(1.0, WINDOW / (bdp * (1 + 1.25 * log(bdp) / log(1 / loss))))


def lossy(rate: float, rtt_ms: float, buffer_bdp: float, loss: float, seconds: float = 30.0) -> Case:
    """A point of the grid: random loss behind the bottleneck."""
    forward, backward = link(rate, rtt_ms * 1e3, buffer_bdp, loss=loss)
    limit = rate * (1 - loss) * PAYLOAD_SHARE * window_share(rate, rtt_ms * 1e3, loss)
    name = f"{rate / 1e6:g} Mb/s {rtt_ms:g} ms {buffer_bdp:g} BDP {100 * loss:g} %"
    return Case("loss", name, forward, backward, rtt_ms * 1e3, limit, seconds)


def start_seconds(watched: Watched, case: Case) -> float:
    """When the receiver's rate, over a round trip and at least 0.2 s, first reaches 90 % of the limit."""
    snapshots = watched.snapshots
    step = max(2, round(case.rtt_us / 1e5))
    for first, last in zip(snapshots, snapshots[step:], strict=False):
        unique = last.received - first.received
        if 8 * unique / ((last.now_us - first.now_us) / 1e6) >= 0.9 * case.limit_bits_per_s:
            return first.now_us / 1e6
    return case.seconds


def run(case: Case, seed: int) -> Outcome:
    """One simulation."""
    watched = single(case.forward, case.backward, seed, case.seconds)
    steady = watched.between(SETTLED_S, case.seconds)
    truth, segments = steady.truth, max(1, steady.segments)
    rate = case.forward.rate_bits_per_s
    service_us = wire_bytes(1_400) * 8e6 / rate if rate else 0.0
    return Outcome(
        case.line,
        case.name,
        seed,
        steady.goodput_bits_per_s / case.limit_bits_per_s,
        steady.retransmitted / segments,
        truth.dropped_share,
        steady.spurious / max(1, steady.retransmitted),
        steady.mean_rtt_us / (case.rtt_us + service_us),
        start_seconds(watched, case),
        float(watched.sender.control.state()["noise_percent"] or 0) / 100 if watched.sender.control else 0.0,
    )


def _run(job: tuple[Case, int]) -> Outcome:
    return run(*job)


def run_all(cases: Iterable[Case], seeds: Iterable[int], processes: int | None = None) -> Iterator[Outcome]:
    """Every case with every seed, in order, over as many processes as there are cores."""
    jobs = [(case, seed) for case in cases for seed in seeds]
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        yield from pool.map(_run, jobs)
