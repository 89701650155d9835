"""The grade of bufferbloat: the increase of the round-trip time under load.

The bounds are those of dslreports.com/faq/17930, which netspd and LibreQoS use as well. A load is graded only
if it reached `FULL_LOAD` of the best rate of its session: the queue of a path that is not full says nothing
about the queue of one that is. A session of one test has no other rate to compare with, so a single test has
the number of `increase_us` and no grade. Only `grade` gives a letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GRADES = (("A+", 5e3), ("A", 30e3), ("B", 60e3), ("C", 200e3), ("D", 400e3))
"""Letters, each with the increase in microseconds below which it is given; F is the rest."""
FULL_LOAD = 0.8
"""Share of the best rate of a session that a load must reach before it is graded."""
FEWEST_RATES = 2
"""Rates of a session below which nothing tells that a load was full."""


@dataclass(frozen=True, slots=True)
class Bufferbloat:
    """A letter with its number, or the reason why there is none.

    Parameters
    ----------
    letter : "A+" to "F"; empty: `reason` says why
    increase_us : 95th percentile of the round-trip time under load less the one before it; None: not known
    """

    letter: str = ""
    increase_us: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoadedRtt:
    """A load: its rate, and the 95th percentile of the round-trip time under it. None: not known."""

    bits_per_s: float | None
    rtt_p95_us: float | None


def increase_us(idle_us: float | None, loaded_p95_us: float | None) -> float | None:
    """The increase of the round-trip time under load, in microseconds.

    Parameters
    ----------
    idle_us : round-trip time before the load: of a test the shortest one, of a diagnosis the median of echoes
    loaded_p95_us : 95th percentile of the round-trip time under load

    Returns
    -------
    float or None
        0.0 if the load made it no longer; None if one of the two is not known.
    """
    if idle_us is None or loaded_p95_us is None:
        return None
    return max(0.0, loaded_p95_us - idle_us)


def grade(
    idle_us: float | None, loads: Sequence[LoadedRtt], session_bits_per_s: Sequence[float]
) -> Bufferbloat:
    """Grade the worst of the full loads.

    Parameters
    ----------
    idle_us : round-trip time before the load, see `increase_us`; None: not known
    loads : of one direction
    session_bits_per_s : the rates of all tests of the session in that direction, counted as those of the
        loads, which are among them

    Returns
    -------
    Bufferbloat
        A letter and its number; without a full load no letter, and the number of all loads.
    """
    if idle_us is None:
        return Bufferbloat(reason="the round-trip time before the load is not known")
    reason = ""
    full = [load for load in loads if _is_full(load, session_bits_per_s)]
    if len(session_bits_per_s) < FEWEST_RATES:
        reason = "a single test does not show that its load was full"
    elif not full:
        reason = f"the load did not reach {FULL_LOAD * 100:.0f} % of the best rate"
    # Without a full load the number of all loads remains, and it has no letter.
    measured = [load.rtt_p95_us for load in (loads if reason else full) if load.rtt_p95_us is not None]
    if not measured:
        return Bufferbloat(reason=reason or "no echo came back under load")
    increase = increase_us(idle_us, max(measured))
    return Bufferbloat("" if reason or increase is None else _letter(increase), increase, reason)


def _is_full(load: LoadedRtt, session_bits_per_s: Sequence[float]) -> bool:
    best = max(session_bits_per_s, default=0.0)
    return load.bits_per_s is not None and best > 0 and load.bits_per_s >= FULL_LOAD * best


def _letter(increase_us: float) -> str:
    """Give the letter of an increase in microseconds."""
    return next((name for name, below_us in GRADES if increase_us < below_us), "F")
