"""The grade of bufferbloat: the increase of the round-trip time under load.

The bounds are those of dslreports.com/faq/17930, which netspd and LibreQoS use as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GRADES = (("A+", 5e3), ("A", 30e3), ("B", 60e3), ("C", 200e3), ("D", 400e3))
"""Letters, each with the increase in microseconds below which it is given; F is the rest."""


@dataclass(frozen=True, slots=True)
class Bufferbloat:
    """A letter with its number, or the reason why there is none.

    Parameters
    ----------
    letter : "A+" to "F"; empty: `reason` says why
    increase_us : 95th percentile of the round-trip time under load less the median before it
    """

    letter: str = ""
    increase_us: float | None = None
    reason: str = ""


def letter(increase_us: float) -> str:
    """Give the letter of an increase in microseconds."""
    return next((name for name, below_us in GRADES if increase_us < below_us), "F")


def grade(
    idle_us: Mapping[str, float], loaded_us: Sequence[Mapping[str, float]], *, full_load: bool
) -> Bufferbloat:
    """Grade the worst of the loads.

    Parameters
    ----------
    idle_us, loaded_us : percentiles by the keys p50 and p95
    full_load : True if a load reached 80 % of the path's rate
    """
    if "p50" not in idle_us:
        return Bufferbloat(reason="the round-trip time before the load is not known")
    if not full_load:
        return Bufferbloat(reason="the load did not reach 80 % of the path's rate")
    loaded = [percentiles["p95"] for percentiles in loaded_us if "p95" in percentiles]
    if not loaded:
        return Bufferbloat(reason="no echo came back under load")
    increase_us = max(0.0, max(loaded) - idle_us["p50"])
    return Bufferbloat(letter(increase_us), increase_us)
