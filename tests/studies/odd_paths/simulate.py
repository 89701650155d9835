"""Runs one contender over one path and reduces the run to plain figures."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import sqrt
from statistics import fmean
from typing import Any

from tests.studies.odd_paths.contenders import CONTENDERS, plain_draft
from tests.studies.odd_paths.drawing import OddPath
from tests.studies.odd_paths.limits import Limit
from tests.studies.odd_paths.observed import Look, observe
from tests.studies.odd_paths.prober import own_rtt_us, stream_rtt_us
from tests.studies.odd_paths.settling import settlings


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one run: shares of 1, microseconds, seconds; `record_of` names each.

    settled : for each lasting change its time, the time until it was settled, the time allowed (seconds),
        and 1 if 90 % of the limit was reached at all
    """

    kinds: str
    seed: int
    name: str
    contender: str
    values: dict[str, float]
    settled: list[list[float]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """Path and contender."""
        return self.name, self.contender

    def fields(self) -> dict[str, Any]:
        """Give the fields for a file."""
        return asdict(self)


Job = tuple[OddPath, str]
"""A path and the name of a contender."""


def run(job: Job) -> Outcome:
    """Run one simulation."""
    path, contender = job
    began = time.process_time()
    with plain_draft() if contender == "draft" else nullcontext():
        looks = observe(path, CONTENDERS[contender])
    limit = Limit(path)
    own_us = own_rtt_us(path)
    figures = record_of(looks, path, limit, own_us)
    figures["rtt_stream"] = figures["rtt_us"] / max(own_us, stream_rtt_us(path) or 0.0)
    series = [(look.now_s, 8.0 * look.received) for look in looks]
    settled = [[one.at_s, one.after_s, one.allowed_s, one.reached] for one in settlings(path, limit, series)]
    figures["cost_s"] = time.process_time() - began
    return Outcome(path.kinds, path.seed, path.name, contender, figures, settled)


def record_of(looks: list[Look], path: OddPath, limit: Limit, own_us: float) -> dict[str, float]:
    """Reduce a run to its figures over the time that counts.

    goodput : share of the limit; limit : bits per second
    rtt_us, rtt_reported_us : mean over acknowledged segments, true and by the sender's gauge
    rtt_stream : the true mean as a multiple of that of a stream without a queue (prober.py)
    own_rtt_us, rtt : the path's own mean RTT, and the true mean as a multiple of it
    spurious_reported, spurious : of the retransmissions; copies that were dropped count as the others
    noise_reported, noise, noise_error : random loss by the sender's gauge, the true one, two standard errors
        of it; over the last half of the time
    """
    counted = [look for look in looks if look.now_s >= path.settled_s]
    first, last = counted[0], counted[-1]
    allowed = limit.mean(first.now_s, last.now_s)
    rate = 8.0 * (last.received - first.received) / (last.now_s - first.now_s)
    rtt_us = (last.true_rtt_sum_us - first.true_rtt_sum_us) / max(1, last.acked - first.acked)
    truth = last.truth - first.truth
    # A retransmission that is dropped shows no duplicate at the receiver, whether it was needed or not.
    resent = max(1, last.retransmitted - first.retransmitted)
    arriving = max(1e-9, 1.0 - truth.dropped_share)
    # The sender learns the loss in the first half of the time.
    late = counted[len(counted) // 2 :]
    late_truth = late[-1].truth - late[0].truth
    offered = max(1, late_truth.delivered + late_truth.on_the_way + late_truth.lost)
    noise = late_truth.lost / offered
    reported = [look.noise for look in late if look.noise is not None]
    return {
        "goodput": rate / allowed,
        "limit": allowed,
        "rtt": rtt_us / own_us,
        "rtt_us": rtt_us,
        "rtt_reported_us": _reported_rtt_us(counted),
        "own_rtt_us": own_us,
        "bdp": path.bdp_segments,
        "dropped": truth.dropped_share,
        "retransmitted": (last.retransmitted - first.retransmitted) / max(1, last.segments - first.segments),
        "spurious": min(1.0, (last.duplicates - first.duplicates) / arriving / resent),
        "spurious_reported": (last.spurious - first.spurious) / resent,
        "noise": noise,
        "noise_reported": fmean(reported) if reported else 0.0,
        "noise_error": 2 * sqrt(noise * (1 - noise) / offered),
    }


def _reported_rtt_us(looks: list[Look]) -> float:
    """Give the mean of the sender's gauge, each value weighted by the segments acknowledged since the one
    before: where the rate varies, a mean over time is another figure than one over segments."""
    weights = [later.acked - earlier.acked for earlier, later in pairwise(looks)]
    weighted = sum(look.rtt_us * weight for look, weight in zip(looks[1:], weights, strict=True))
    return weighted / max(1, sum(weights))
