"""The paths of the grid. A case is one flow over one path unless its kind says otherwise; nothing is tuned
per case."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import log

import numpy as np

from iperfpy.protocols.simulator.path import Bursts, Change, Path, bdp_bytes, wire_bytes
from tests.studies.paths.watched import PAYLOAD_SHARE

SMALLEST_BUFFER = 8
"""Smallest buffer of a bottleneck, in datagrams."""
WINDOW = 65_535
REPAIR_RTTS = 1.25
WALKED, SETTLING = 40, 4
"""Number of windows that `window_share` simulates, and the number of first ones that it leaves out."""
RATES = (5e6, 20e6, 100e6, 500e6)
RTTS_MS = (10.0, 60.0, 170.0, 300.0)
BUFFERS = (0.1, 1.0, 10.0)
LOSSES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4)
_SHUFFLE = 4


class Kind(enum.Enum):
    """Kind of simulation."""

    SOLO = "one flow"
    STEPS = "one flow over a path that changes"
    FAIR = "several flows from the start"
    LATE = "a second flow comes later"
    RIVAL = "beside a loss-based flow"


@dataclass(frozen=True, slots=True)
class Stage:
    """Goodput and round-trip time that the path allows from `at_s` on. An outage is over at that time."""

    at_s: float
    limit_bits_per_s: float
    rtt_us: float


@dataclass(frozen=True, slots=True)
class Case:
    """`limit_bits_per_s` is the goodput that the path allows, over all flows. `window_share`: share of the
    path that KCP's window of 65,535 segments can use; the limit is computed with it."""

    line: str
    name: str
    forward: Path
    backward: Path
    rtt_us: float
    limit_bits_per_s: float
    seconds: float = 30.0
    kind: Kind = Kind.SOLO
    flows: int = 1
    rival: str = ""
    stages: tuple[Stage, ...] = ()
    window_share: float = 1.0


def link(rate: float, rtt_ms: float, buffer_bdp: float, **fields: object) -> tuple[Path, Path]:
    """Make forward and backward path, with half of the propagation delay each, and a clean way back."""
    buffer = max(bdp_bytes(rate, rtt_ms * 1e3, buffer_bdp), SMALLEST_BUFFER * wire_bytes(1_400))
    forward = Path(rate_bits_per_s=rate, buffer_bytes=buffer, delay_us=rtt_ms * 500)
    return forward.with_(**fields), Path(delay_us=rtt_ms * 500)


@cache
def window_share(rate: float, rtt_us: float, loss: float) -> float:
    """Compute the share of the delivered rate, rate x (1 - loss), that 65,535 segments can use; at most 1.

    A segment occupies the window from its first transmission until it and all segments before it have
    arrived. Repairs take 1.25 round trips each, as with the reordering window of RFC 8985; a sender that
    detects losses sooner may exceed this share. The segment with most losses delays its whole window, so
    numbers of losses are drawn at random, and segments are sent window by window as repairs free the window.
    Times are in round trips.
    """
    bdp = rate * rtt_us / 8e6 / wire_bytes(1_400)
    delivered = bdp * (1 - loss)
    if not loss or bdp <= 1:
        return min(1.0, WINDOW / bdp)
    if bdp * (1 + REPAIR_RTTS * (1 + log(WALKED * WINDOW) / log(1 / loss))) < WINDOW:
        return 1.0  # The window is large enough even for the segment with most losses.
    rng, at = np.random.default_rng(1), np.arange(WINDOW) / delivered
    arrived, earliest, settled = np.zeros(WINDOW), 0.0, 0.0
    for walk in range(WALKED):
        sent = np.maximum.accumulate(np.maximum(arrived - at, earliest)) + at
        needed = 1 + REPAIR_RTTS * (rng.geometric(1 - loss, WINDOW) - 1)
        arrived = np.maximum.accumulate(np.maximum(sent + needed, arrived[-1]))
        earliest = float(sent[-1]) + 1 / delivered
        settled = earliest if walk == SETTLING else settled
    return min(1.0, (WALKED - 1 - SETTLING) * WINDOW / delivered / (earliest - settled))


def lossy(rate: float, rtt_ms: float, buffer_bdp: float, loss: float, seconds: float = 30.0) -> Case:
    """Make a point of the regular grid: random loss behind the bottleneck."""
    forward, backward = link(rate, rtt_ms, buffer_bdp, loss=loss)
    share = window_share(rate, rtt_ms * 1e3, loss)
    limit = rate * (1 - loss) * PAYLOAD_SHARE * share
    line = "loss" if buffer_bdp >= 1 and loss <= 0.3 else "hard"
    name = f"{_path(rate, rtt_ms, buffer_bdp)} {100 * loss:g} %"
    return Case(line, name, forward, backward, rtt_ms * 1e3, limit, seconds, window_share=share)


def _path(rate: float, rtt_ms: float, buffer_bdp: float) -> str:
    return f"{rate / 1e6:g} Mb/s {rtt_ms:g} ms {buffer_bdp:g} BDP"


def _grid(rates: Sequence[float]) -> Iterator[Case]:
    for rate, rtt_ms, buffer_bdp, loss in product(rates, RTTS_MS, BUFFERS, LOSSES):
        yield lossy(rate, rtt_ms, buffer_bdp, loss)


def policers() -> Iterator[Case]:
    """List the paths with a policer, without and with losses of another cause."""
    rate = 20e6
    for loss, bucket, rtt_ms in product((0.0, 0.05), (32_000, 256_000, 1_000_000), (20.0, 170.0)):
        forward = Path(police_bits_per_s=rate, bucket_bytes=bucket, delay_us=rtt_ms * 500, loss=loss)
        name = f"policed to 20 Mb/s, bucket {bucket / 1e3:g} KB, {rtt_ms:g} ms, {100 * loss:g} %"
        line = "policer-loss" if loss else "policer"
        backward = Path(delay_us=rtt_ms * 500)
        yield Case(line, name, forward, backward, rtt_ms * 1e3, rate * (1 - loss) * PAYLOAD_SHARE)


_SOME = ((5e6, 170.0), (20e6, 60.0), (100e6, 60.0))
"""List the paths on which the other impairments are tried."""


def _bursts() -> Iterator[Case]:
    for (rate, rtt_ms), length in product(_SOME, (5, 20)):
        forward, backward = link(rate, rtt_ms, 1.0, bursts=Bursts.averaging(0.05, length))
        name = f"{_path(rate, rtt_ms, 1.0)}, 5 % in bursts of {length}"
        yield Case("bursts", name, forward, backward, rtt_ms * 1e3, rate * 0.95 * PAYLOAD_SHARE)


def _lossy_acks() -> Iterator[Case]:
    for (rate, rtt_ms), loss in product(_SOME, (0.2, 0.4)):
        forward, backward = link(rate, rtt_ms, 1.0)
        name = f"{_path(rate, rtt_ms, 1.0)}, ACKs lose {100 * loss:g} %"
        yield Case("acks", name, forward, backward.with_(loss=loss), rtt_ms * 1e3, rate * PAYLOAD_SHARE)


def _reordering() -> Iterator[Case]:
    for rate, rtt_ms in _SOME:
        forward, backward = link(rate, rtt_ms, 1.0, reorder=0.05, reorder_us=rtt_ms * 500)
        name = f"{_path(rate, rtt_ms, 1.0)}, 5 % up to {rtt_ms / 2:g} ms late"
        yield Case("reorder", name, forward, backward, rtt_ms * 1e3, rate * PAYLOAD_SHARE)


def _steps() -> Iterator[Case]:
    for buffer_bdp in (0.2, 1.0):  # of the fastest rate: 2 and 10 BDP of the slowest
        changes = (
            Change(10_000_000, {"rate_bits_per_s": 100e6}),
            Change(20_000_000, {"rate_bits_per_s": 10e6}),
        )
        forward, backward = link(100e6, 60.0, buffer_bdp, changes=changes)
        stages = tuple(Stage(at, rate * PAYLOAD_SHARE, 60e3) for at, rate in ((10.0, 100e6), (20.0, 10e6)))
        name = f"20, 100, 10 Mb/s, 60 ms, buffer {(forward.buffer_bytes or 0) / 1e3:g} KB"
        first = forward.with_(rate_bits_per_s=20e6)
        yield Case(
            "steps", name, first, backward, 60e3, 20e6 * PAYLOAD_SHARE, 30.0, Kind.STEPS, stages=stages
        )
    for buffer_bdp in (0.25, 1.0):
        changes = (Change(10_000_000, {"delay_us": 175e3}), Change(20_000_000, {"delay_us": 25e3}))
        forward, backward = link(20e6, 200.0, buffer_bdp)
        first = forward.with_(delay_us=25e3, changes=changes)
        limit = 20e6 * PAYLOAD_SHARE
        stages = (Stage(10.0, limit, 200e3), Stage(20.0, limit, 50e3))
        name = f"50, 200, 50 ms, 20 Mb/s, buffer {(forward.buffer_bytes or 0) / 1e3:g} KB"
        yield Case("steps", name, first, Path(delay_us=25e3), 50e3, limit, 30.0, Kind.STEPS, stages=stages)
    for rtt_ms in (60.0, 170.0):
        changes = (Change(10_000_000, {"down": True}), Change(12_000_000, {"down": False}))
        forward, backward = link(20e6, rtt_ms, 1.0, changes=changes)
        limit = 20e6 * PAYLOAD_SHARE
        stages = (Stage(12.0, limit, rtt_ms * 1e3),)
        name = f"{_path(20e6, rtt_ms, 1.0)}, nothing for 2 s"
        yield Case("steps", name, forward, backward, rtt_ms * 1e3, limit, 25.0, Kind.STEPS, stages=stages)


_SHARED = ((20e6, 60.0), (100e6, 20.0))


def _shared_paths() -> Iterator[Case]:
    for (rate, rtt_ms), flows in product(_SHARED, (2, 4, 8)):
        forward, backward = link(rate, rtt_ms, 1.0)
        name = f"{_path(rate, rtt_ms, 1.0)}, {flows} flows"
        limit = rate * PAYLOAD_SHARE
        yield Case("fair", name, forward, backward, rtt_ms * 1e3, limit, 65.0, Kind.FAIR, flows)
    for rate, rtt_ms in _SHARED:
        forward, backward = link(rate, rtt_ms, 1.0)
        name = f"{_path(rate, rtt_ms, 1.0)}, a second flow after 15 s"
        limit = rate * PAYLOAD_SHARE
        yield Case("late", name, forward, backward, rtt_ms * 1e3, limit, 45.0, Kind.LATE, 2)
    for (rate, rtt_ms), rival, buffer_bdp in product(_SHARED, ("classic", "cubic"), (1.0, 5.0)):
        forward, backward = link(rate, rtt_ms, buffer_bdp)
        name = f"{_path(rate, rtt_ms, buffer_bdp)}, beside {rival}"
        limit = rate * PAYLOAD_SHARE
        yield Case("rival", name, forward, backward, rtt_ms * 1e3, limit, 60.0, Kind.RIVAL, 2, rival)


def all_cases(rates: Sequence[float] = RATES) -> list[Case]:
    """List all cases in a fixed shuffled order, so that a run which is stopped has sampled the whole grid."""
    cases = [
        *_grid(rates),
        *policers(),
        *_bursts(),
        *_lossy_acks(),
        *_reordering(),
        *_steps(),
        *_shared_paths(),
    ]
    random.Random(_SHUFFLE).shuffle(cases)
    return cases


def cheapest_first(cases: Sequence[Case]) -> list[Case]:
    """Sort the cases by the bytes that their paths carry, which decide the time of a simulation."""

    def size(case: Case) -> float:
        rate = case.forward.rate_bits_per_s or case.forward.police_bits_per_s or 0.0
        return rate * case.seconds * case.flows

    return sorted(cases, key=size)


def thinned(cases: Sequence[Case], most: int) -> list[Case]:
    """Keep the first `most` cases of each line."""
    seen: dict[str, int] = {}
    chosen = []
    for case in cases:
        seen[case.line] = seen.get(case.line, 0) + 1
        if seen[case.line] <= most:
            chosen.append(case)
    return chosen
