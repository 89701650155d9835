"""Targets of the study of odd paths, and the figures of kcp-bbr against each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.studies.odd_paths.drawing import KINDS
from tests.studies.odd_paths.simulate import Outcome

OURS = "kcp-bbr"
FIXED = "CD"
VARYING = frozenset("RS")
"""Kinds with a rate that varies so much that a queue is part of a high goodput: there the RTT is judged
beside the draft's."""
SMALLEST_BDP = 4.0
"""Least BDP, segments, of a path with a judged RTT: below it a few segments are a queue."""
EQUAL = 0.02
"""Two goodputs that differ by this share at most count as equal, and so do two RTTs."""
BESIDE = 0.95
"""Least goodput as a share of the better one of `draft` and `kcp`."""

Runs = Mapping[tuple[str, str], Outcome]
"""Outcomes by path and contender."""
Measure = Callable[[Runs], list[float]]


def goodputs(pairs: bool) -> Measure:
    """Make a measure: goodput as a share of the limit, on paths of one kind, or of two."""

    def measure(runs: Runs) -> list[float]:
        return [one.values["goodput"] for one in drawn(runs) if (len(one.kinds) > 1) == pairs]

    return measure


def ours(runs: Runs) -> list[Outcome]:
    """List the outcomes of kcp-bbr."""
    return [one for one in runs.values() if one.contender == OURS]


def drawn(runs: Runs) -> list[Outcome]:
    """List the outcomes of kcp-bbr on drawn paths."""
    return [one for one in ours(runs) if one.kinds not in FIXED]


def judged_rtt(outcome: Outcome) -> bool:
    """True if the RTT of this path is judged against the path's own."""
    return not VARYING & set(outcome.kinds) and outcome.values["bdp"] >= SMALLEST_BDP


def rtt_factors(runs: Runs) -> list[float]:
    """Measure the mean RTT as a multiple of the path's own."""
    return [one.values["rtt"] for one in drawn(runs) if judged_rtt(one)]


def stream_factors(runs: Runs) -> list[float]:
    """Measure the mean RTT as a multiple of that of a stream without a queue (prober.py)."""
    return [one.values["rtt_stream"] for one in drawn(runs) if judged_rtt(one)]


def rtts_beside_draft(runs: Runs) -> list[float]:
    """Measure the mean RTT as a multiple of the draft's, where rates vary and both goodputs are equal."""
    found = []
    for one in drawn(runs):
        draft = runs.get((one.name, "draft"))
        if draft is None or not VARYING & set(one.kinds):
            continue
        mine, theirs = one.values["goodput"], draft.values["goodput"]
        if abs(mine - theirs) <= EQUAL * max(mine, theirs):
            found.append(one.values["rtt_us"] / draft.values["rtt_us"])
    return found


def beside_best(runs: Runs) -> list[float]:
    """Measure the goodput as a share of the better one of `draft` and `kcp`."""
    found = []
    for one in drawn(runs):
        others = [runs[key] for peer in ("draft", "kcp") if (key := (one.name, peer)) in runs]
        if len(others) == 2:
            found.append(one.values["goodput"] / max(other.values["goodput"] for other in others))
    return found


def lateness(runs: Runs) -> list[float]:
    """Measure the settling time after each lasting change as a share of the time allowed; above 1 if 90 % was
    not reached at all."""
    return [
        after / allowed if reached else max(2.0, after / allowed)
        for one in drawn(runs)
        for _, after, allowed, reached in one.settled
    ]


def _lumps_or_ways(runs: Runs) -> list[Outcome]:
    return [one for one in drawn(runs) if set("WG") & set(one.kinds)]


def rtt_errors(runs: Runs) -> list[float]:
    """Measure the relative error of the reported RTT on paths of the kinds W and G."""
    return [abs(one.values["rtt_reported_us"] / one.values["rtt_us"] - 1) for one in _lumps_or_ways(runs)]


def spurious_errors(runs: Runs) -> list[float]:
    """Measure the error of the reported share of spurious retransmissions."""
    return [abs(one.values["spurious_reported"] - one.values["spurious"]) for one in _lumps_or_ways(runs)]


def noise_errors(runs: Runs) -> list[float]:
    """Measure the error of the reported loss of the path, as a multiple of the error allowed: 0.3 points or
    two standard errors. Where the loss itself changes, a mean of the reported loss lags behind."""
    return [
        abs(one.values["noise_reported"] - one.values["noise"]) / max(0.003, one.values["noise_error"])
        for one in _lumps_or_ways(runs)
        if "L" not in one.kinds
    ]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a statistic of a measure.

    statistic : "p10", "median", "p90", "most", or "share" of values outside of `beyond`
    bound : None for a figure without a target
    beyond : for "share": values below it count (above it, if `above`)
    """

    what: str
    measure: Measure
    statistic: str
    bound: float | None
    least: bool
    beyond: float = 0.0
    above: bool = False


TARGETS = (
    Target("goodput / limit, one kind: p10", goodputs(False), "p10", 0.88, True),
    Target("goodput / limit, one kind: median", goodputs(False), "median", 0.96, True),
    Target("goodput / limit, pairs: p10", goodputs(True), "p10", 0.75, True),
    Target("goodput / limit, pairs: median", goodputs(True), "median", 0.92, True),
    Target("mean RTT / the path's own, without R and S: p90", rtt_factors, "p90", 1.5, False),
    Target("mean RTT / the path's own, without R and S: median", rtt_factors, "median", 1.15, False),
    Target("mean RTT / that of a stream without a queue: p90", stream_factors, "p90", None, False),
    Target("mean RTT / that of a stream without a queue: median", stream_factors, "median", None, False),
    Target(
        "R and S: share with an RTT above the draft's", rtts_beside_draft, "share", 0.0, False, 1.02, True
    ),
    Target("share below 0.95 of the better of draft and kcp", beside_best, "share", 0.02, False, BESIDE),
    Target("share of changes not settled in time", lateness, "share", 0.0, False, 1.0, True),
    Target("W and G: largest error of the reported RTT", rtt_errors, "most", 0.05, False),
    Target("W and G: largest error of spurious, a share", spurious_errors, "most", 0.02, False),
    Target("W and G: largest error of noise / allowed", noise_errors, "most", 1.0, False),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and its figure; `runs` is the number of values behind it."""

    target: Target
    value: float
    runs: int

    @property
    def verdict(self) -> str:
        if not self.runs:
            return "not run"
        target = self.target
        if target.bound is None:
            return ""
        met = self.value >= target.bound if target.least else self.value <= target.bound
        return "PASS" if met else "BELOW"


def percentile(values: Sequence[float], percent: float) -> float:
    """Give a percentile, interpolated; NaN of nothing."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def judge(target: Target, runs: Runs) -> Judged:
    """Compute the figure of a target."""
    values = target.measure(runs)
    if not values:
        return Judged(target, float("nan"), 0)
    if target.statistic == "share":
        out = [one > target.beyond if target.above else one < target.beyond for one in values]
        return Judged(target, sum(out) / len(out), len(values))
    percent = {"p10": 10.0, "median": 50.0, "p90": 90.0, "most": 100.0}[target.statistic]
    return Judged(target, percentile(values, percent), len(values))


def by_path(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], Outcome]:
    """Index outcomes by path and contender."""
    return {one.key: one for one in outcomes}


def groups(runs: Runs) -> list[tuple[str, list[str]]]:
    """List the groups of the table per kind: each kind alone, the fixed cases, each kind in pairs; and the
    names of their paths."""
    names = {one.name: one.kinds for one in runs.values()}
    found = [(one, [name for name, kinds in names.items() if kinds == one]) for one in (*KINDS, *FIXED)]
    for one in KINDS:
        paths = [name for name, kinds in names.items() if one in kinds and len(kinds) > 1]
        found.append((f"{one} in pairs", paths))
    return [(title, paths) for title, paths in found if paths]
