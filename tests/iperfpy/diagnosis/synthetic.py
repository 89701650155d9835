"""Evidence from a small model of a path, packet by packet: its truth is known, and it needs no simulator.

sender -> token bucket -> queue -> bottleneck -> random loss -> delay, jitter, lumps -> receiver
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, RunEvidence, Rung
from iperfpy.diagnosis.ladder import SHARES
from iperfpy.plan import Direction
from iperfpy.protocols.arrival_lumps import lump_us
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Path:
    """Bits per second, bytes, microseconds, shares. `mean_burst`: losses in a row; `walk`: rates of periods
    of 100 ms, cyclic, as factors."""

    rate: float = 10e6
    queue: int = 15_000
    rtt_us: float = 50e3
    police: float = 0.0
    bucket: int = 0
    loss: float = 0.0
    mean_burst: float = 1.0
    jitter_us: float = 0.0
    lump_us: float = 0.0
    late_share: float = 0.0
    early_drop: float = 0.0
    walk: Sequence[float] = ()


def carry(path: Path, sent_us: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Give the one-way delay of each packet, (n,) microseconds, NaN for a lost one."""
    delays = np.full(len(sent_us), np.nan)
    tokens, filled_us, free_us = float(path.bucket), 0.0, 0.0
    bad = False
    leave = 1 / path.mean_burst
    enter = leave * path.loss / (1 - path.loss)
    for at, now_us in enumerate(sent_us.tolist()):
        if path.police:
            tokens = min(path.bucket, tokens + (now_us - filled_us) * path.police / 8e6)
            filled_us = now_us
            if tokens < size:
                continue
            tokens -= size
        rate = path.rate * (path.walk[int(now_us // 1e5) % len(path.walk)] if path.walk else 1.0)
        wait_us = max(0.0, free_us - now_us)
        waiting = wait_us * rate / 8e6
        if waiting + size > path.queue:
            continue
        if path.early_drop and waiting > 0.2 * path.queue and rng.random() < path.early_drop:
            continue
        free_us = now_us + wait_us + size * 8e6 / rate
        if path.loss:
            bad = (
                rng.random() < (1 - leave if bad else enter)
                if path.mean_burst > 1
                else rng.random() < path.loss
            )
            if bad:
                continue
        delays[at] = free_us - now_us + path.rtt_us / 2
    return delays + _variation(path, sent_us, delays, rng)


def _variation(path: Path, sent_us: Floats, delays: Floats, rng: np.random.Generator) -> Floats:
    extra = rng.random(len(sent_us)) * path.jitter_us
    arrivals = sent_us + delays + extra
    there = ~np.isnan(arrivals)
    arrivals[there] = np.maximum.accumulate(arrivals[there])  # the order is kept
    if path.lump_us:
        arrivals = np.ceil(arrivals / path.lump_us) * path.lump_us
    late = rng.random(len(sent_us)) < path.late_share
    moved: Floats = arrivals - sent_us - delays + late * 20e3
    return moved


def bins(sent_us: Floats, delays: Floats, size: int, width_us: int = 1_000) -> FlightBins:
    """Sort packets into bins."""
    at = (sent_us // width_us).astype(np.int64)
    count = int(at[-1]) + 1
    there = ~np.isnan(delays)
    least = float(np.nanmin(delays)) if there.any() else 0.0
    sent, arrived = np.bincount(at, minlength=count), np.bincount(at[there], minlength=count)
    sums = np.bincount(at[there], delays[there] - least, count)
    mean = np.where(arrived > 0, sums / np.maximum(arrived, 1), np.nan)
    return FlightBins(
        0, width_us, sent * size, arrived * size, sent, arrived, mean, one_way=True, least_us=least + 7e6
    )


def rung(
    path: Path,
    rate: float,
    rng: np.random.Generator,
    size: int = 1_000,
    seconds: float = 1.5,
    stalls: int = 0,
    wakes_us: float = 0.0,
) -> Rung:
    """Send datagrams at a constant rate.

    Parameters
    ----------
    stalls : times at which the sender is held up for 30 ms
    wakes_us : mean time between the moments at which the sender sends all that is due; 0: at any time
    """
    count = int(rate * seconds / 8 / size)
    sent_us = np.arange(count, dtype=np.float64) * (size * 8e6 / rate)
    if wakes_us:
        wakes = np.cumsum(rng.exponential(wakes_us, int(4e6 * seconds / wakes_us) + 100))
        sent_us = wakes[np.searchsorted(wakes, sent_us)]
    for begin_us in (np.arange(stalls) + 1) * 2e5:
        held = (sent_us >= begin_us) & (sent_us < begin_us + 30e3)
        sent_us[held] = begin_us + 30e3
    delays = carry(path, sent_us, size, rng)
    lost = np.isnan(delays)
    runs = int(lost[:1].sum() + (lost[1:] & ~lost[:-1]).sum())
    arrivals = (sent_us + delays)[~lost]
    late = int((arrivals[1:] < np.maximum.accumulate(arrivals)[:-1]).sum()) if len(arrivals) else 0
    rtts = (delays[~lost] + path.rtt_us / 2)[:: max(1, count // 30)]
    return Rung(
        count * size * 8 / seconds,
        size,
        seconds,
        count,
        int((~lost).sum()),
        _percentiles(rtts),
        bins(sent_us, delays, size),
        late,
        loss_runs=runs,
        lost_in_runs=int(lost.sum()),
    )


def idle(path: Path, rng: np.random.Generator) -> IdlePath:
    """Send echoes without load, 200 a second."""
    sent_us = np.asarray((np.arange(500) + rng.random(500)) * 5e3, np.float64)
    quiet = Path(path.rate, 10**9, path.rtt_us, jitter_us=path.jitter_us, lump_us=path.lump_us)
    delays = carry(quiet, sent_us, 64, rng)
    return IdlePath(_percentiles(delays + path.rtt_us / 2), 1_500, 1_500, 500, lump_us(sent_us + delays, 5e3))


@cache
def direction(path: Path, seed: int = 1, factors: Sequence[float] = (*SHARES, 1.6)) -> DirectionEvidence:
    """Run a ladder around the rate that the path carries."""
    rng = np.random.default_rng(seed)
    carried = path.police or path.rate
    rungs = tuple(rung(path, share * carried, rng) for share in factors)
    return DirectionEvidence(Direction.FORWARD, idle(path, rng), rungs)


def stream(path: Path, rate: float, seconds: float = 6.0, seed: int = 1, size: int = 1_000) -> FlightBins:
    """Record one stream with round-trip times, at a constant rate."""
    rng = np.random.default_rng(seed)
    count = int(rate * seconds / 8 / size)
    sent_us = np.arange(count, dtype=np.float64) * (size * 8e6 / rate)
    delays: Floats = carry(path, sent_us, size, rng) + path.rtt_us / 2
    record = bins(sent_us, delays, size)
    least = float(np.nanmin(delays))
    return FlightBins(
        0,
        record.width_us,
        record.sent_bytes,
        record.arrived_bytes,
        record.sent_packets,
        record.arrived_packets,
        record.delay_us + least,
    )


def run(**values: object) -> RunEvidence:
    """Make the evidence of one test; `path` and the other fields as given."""
    fields: dict[str, object] = {
        "transport": "kcp-bbr",
        "reliable": True,
        "controlled": True,
        "streams": 1,
        "seconds": 10.0,
        "bits_per_second": 9e6,
    }
    return RunEvidence(**{**fields, **values})  # type: ignore[arg-type]


def limited(**shares: float) -> PathEvidence:
    """Evidence of a stream of 10 s that was limited for these shares of the time."""
    us = {key.replace("_", "-"): round(share * 10e6) for key, share in shares.items()}
    return PathEvidence(limited_us=us, min_rtt_us=50e3, packet_bytes=1_428)


def _percentiles(values: Floats) -> dict[str, float]:
    p5, p50, p95 = np.percentile(values[~np.isnan(values)], (5, 50, 95))
    return {"p5": float(p5), "p50": float(p50), "p95": float(p95), "max": float(np.nanmax(values))}
