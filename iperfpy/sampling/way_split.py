"""The split of the round trips of several message tests into their two ways, by the clocks of both hosts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from iperfpy.records import MessageTimes
from iperfpy.sampling.clock_difference import Basis, ClockDifference, drift_of, fault, symmetric, told


@dataclass(frozen=True, slots=True)
class WaySplit:
    """The knowledge by which round trips are split.

    Parameters
    ----------
    basis : None: they are not split
    drift : of the server's clock against the client's, which is taken out; without unit
    fault : the reason why the clocks that both ends told are not believed (--owd), or empty
    """

    basis: Basis | None = None
    drift: float = 0.0
    fault: str = ""


NOT_SPLIT = WaySplit()


@dataclass(frozen=True, slots=True)
class RowMessages:
    """The tests of a row of a result.

    Parameters
    ----------
    kind : of the messages: their transport, size and rate
    idle : True without a load beside them
    times : of each round
    """

    kind: Hashable
    idle: bool
    times: Sequence[MessageTimes]


Clocks = tuple[ClockDifference | None, ...]
"""The difference of the clocks in each round; None: not known."""


def clocks_of(rows: Sequence[RowMessages], *, owd: bool) -> tuple[list[Clocks], WaySplit]:
    """The differences of the clocks for each row, and the knowledge behind them.

    Parameters
    ----------
    rows : all tests between two hosts
    owd : True to take the clocks of both ends for synchronised, or for one; False to estimate their
        difference by the idle messages of each kind, whose ways are equal if the path is symmetric
    """
    return _told(rows) if owd else _symmetric(rows)


def _symmetric(rows: Sequence[RowMessages]) -> tuple[list[Clocks], WaySplit]:
    drift = drift_of([one for row in rows for one in row.times])
    idle = {row.kind: row.times[0] for row in rows if row.idle and row.times}
    found: list[Clocks] = []
    for row in rows:
        # Without an idle test, the shortest round trips beside the load are the next best.
        source = idle.get(row.kind, row.times[0] if row.times else None)
        clock = symmetric(source, drift) if source is not None else None
        found.append((clock,) * len(row.times))
    known = any(clock is not None for clocks in found for clock in clocks)
    return found, WaySplit(Basis.SYMMETRIC, drift) if known else NOT_SPLIT


def _told(rows: Sequence[RowMessages]) -> tuple[list[Clocks], WaySplit]:
    every = [one for row in rows for one in row.times]
    clocks = [told(one) for one in every]
    reason = fault(every, clocks)
    if reason or not every:
        return [(None,) * len(row.times) for row in rows], WaySplit(fault=reason)
    bases = {clock.basis for clock in clocks if clock is not None}
    basis = Basis.SYNCHRONISED if Basis.SYNCHRONISED in bases else Basis.SAME_HOST
    return [tuple(told(one) for one in row.times) for row in rows], WaySplit(basis)
