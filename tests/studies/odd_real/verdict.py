"""The verdict on one path: medians of the runs, and the targets that they meet or miss. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.studies.odd_real.emulated_paths import OddPath

OURS, KERNEL, CUBIC = "kcp-bbr", "bbr", "cubic"
RATIO = 0.97
"""Of the kernel BBR's rate; a start must reach all of it."""
WIDE_SHARE = 0.95
"""Of the limit, where jitter is wide."""
FULL_SHARE = 0.9
"""Of the limit: where the kernel's BBR reaches it, its RTT is the measure, else the path's own."""
RTT_RATIO, RTT_SLACK_MS, OWN_RTT_RATIO = 1.05, 1.0, 1.5
START_LOST = 0.05
"""Of the packets sent in the first second."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Medians in Mbit/s and ms, and the misses, one phrase each; None: not measured."""

    path: OddPath
    limit_mbit: float
    ours: float | None
    kernel: float | None
    cubic: float | None
    ours_rtt_ms: float | None
    kernel_rtt_ms: float | None
    lost: float | None
    runs: int
    unclean: int
    misses: tuple[str, ...]

    @property
    def word(self) -> str:
        """PASS or BELOW; empty if one of the two was not measured and nothing else was missed."""
        if self.misses:
            return "BELOW"
        return "" if self.ours is None or self.kernel is None else "PASS"

    @property
    def ratio(self) -> float | None:
        """Our rate as a share of the kernel's."""
        return self.ours / self.kernel if self.ours is not None and self.kernel else None

    @property
    def share(self) -> float | None:
        """Our rate as a share of the limit."""
        return None if self.ours is None else self.ours / self.limit_mbit


def judge(path: OddPath, runs: Iterable[Mapping[str, Any]], seconds: float) -> Verdict:
    """The verdict on the runs of one path.

    Parameters
    ----------
    runs : records with `program`, and `mbit`, `rtt_ms`, `first_second_lost`, `unclean`, or `error`
    seconds : length of a run
    """
    listed = list(runs)

    def middle(program: str, key: str) -> float | None:
        found = [run.get(key) for run in listed if run["program"] == program]
        known = [value for value in found if value is not None]
        return median(known) if known else None

    limit = path.limit_mbit(seconds, path.measured_from_s(seconds))
    rates = {program: middle(program, "mbit") for program in (OURS, KERNEL, CUBIC)}
    rtts = {program: middle(program, "rtt_ms") for program in (OURS, KERNEL)}
    lost = middle(OURS, "first_second_lost")
    misses = [*_errors(listed), *_rate_misses(path, limit, rates), *_rtt_misses(path, limit, rates, rtts)]
    if path.start and lost is not None and lost > START_LOST:
        misses.append(f"lost in the first second {100 * lost:.1f} %")
    return Verdict(
        path,
        limit,
        rates[OURS],
        rates[KERNEL],
        rates[CUBIC],
        rtts[OURS],
        rtts[KERNEL],
        lost,
        sum(run["program"] == OURS for run in listed),
        sum(bool(run.get("unclean")) for run in listed),
        tuple(misses),
    )


def _errors(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"failed: {run['error']}" for run in runs if run["program"] == OURS and run.get("error")][:1]


def _rate_misses(path: OddPath, limit: float, rates: Mapping[str, float | None]) -> list[str]:
    ours, kernel, misses = rates[OURS], rates[KERNEL], []
    wanted = 1.0 if path.start else RATIO
    if ours is not None and kernel and ours < wanted * kernel:
        misses.append(f"rate {ours / kernel:.2f} of BBR's")
    if ours is not None and path.wide and ours < WIDE_SHARE * limit:
        misses.append(f"rate {ours / limit:.2f} of the limit")
    return misses


def _rtt_misses(
    path: OddPath, limit: float, rates: Mapping[str, float | None], rtts: Mapping[str, float | None]
) -> list[str]:
    ours, kernel, kernel_rate = rtts[OURS], rtts[KERNEL], rates[KERNEL]
    if path.start or ours is None:
        return []
    if kernel is not None and kernel_rate is not None and kernel_rate >= FULL_SHARE * limit:
        most, measure = RTT_RATIO * kernel + RTT_SLACK_MS, "BBR's"
    else:
        most, measure, kernel = OWN_RTT_RATIO * path.rtt_ms, "the path's", path.rtt_ms
    return [f"RTT {ours / kernel:.2f} of {measure}"] if ours > most else []
