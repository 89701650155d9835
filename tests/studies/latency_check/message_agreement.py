"""The verdict on one transport over one path: medians of the simulator and of the lab, and their ratio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.studies.latency_check.message_runs import FIGURES

SIMULATOR, LAB = "simulator", "lab"
SHARE = 0.10
"""Largest difference between two medians, as a share of the smaller one: neither is the standard."""

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """The medians of one figure, milliseconds; None: not measured."""

    simulator: float | None
    lab: float | None

    @property
    def ratio(self) -> float | None:
        """The simulator's figure as a multiple of the lab's."""
        return self.simulator / self.lab if self.simulator and self.lab else None

    @property
    def agrees(self) -> bool:
        """True if both were measured and differ by at most `SHARE`."""
        return self.ratio is not None and max(self.ratio, 1 / self.ratio) - 1.0 <= SHARE


@dataclass(frozen=True, slots=True)
class LatencyAgreement:
    """One row.

    Parameters
    ----------
    pairs : by figure
    lost : share of the messages that were not answered, simulator and lab
    runs, unclean : of the lab
    error : of the first run that failed, or empty
    """

    path: str
    transport: str
    pairs: Mapping[str, Pair]
    lost: Pair
    runs: int
    unclean: int
    error: str = ""

    @property
    def is_unclean(self) -> bool:
        """True if no run of the lab was clean: the row compares the machine with the simulator."""
        return self.runs == self.unclean

    @property
    def passes(self) -> bool:
        """True if clean runs agree with the simulator in every figure."""
        return not self.is_unclean and all(pair.agrees for pair in self.pairs.values())

    @property
    def word(self) -> str:
        """PASS, MISS with the figures, or unclean."""
        if self.passes:
            return "PASS"
        if self.is_unclean:
            return self.error or ("unclean" if self.runs else "no run")
        return "MISS " + ", ".join(name for name, pair in self.pairs.items() if not pair.agrees)


def judge(path: str, transport: str, runs: Iterable[Run]) -> LatencyAgreement:
    """The verdict on all runs of a row, records with `instrument`, the figures and `unclean`, or `error`.

    Runs that are not clean count only if there are no others.
    """
    listed = list(runs)
    real = [run for run in listed if run["instrument"] == LAB and not run.get("error")]
    errors = [str(run["error"]) for run in listed if run.get("error")]
    unclean = sum(bool(run["unclean"]) for run in real)
    pairs = {name: _pair(listed, name) for name in (*FIGURES, "lost")}
    lost = pairs.pop("lost")
    return LatencyAgreement(path, transport, pairs, lost, len(real), unclean, errors[0] if errors else "")


def _pair(runs: Sequence[Run], figure: str) -> Pair:
    return Pair(_median(runs, SIMULATOR, figure), _median(runs, LAB, figure))


def _median(runs: Sequence[Run], instrument: str, figure: str) -> float | None:
    its = [run for run in runs if run["instrument"] == instrument and run.get(figure) is not None]
    clean = [run for run in its if not run["unclean"]]
    return median(run[figure] for run in clean or its) if its else None
