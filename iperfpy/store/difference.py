"""Two sides of stored runs compared: medians, shifts with their intervals, and a verdict for each figure.

    RunSample ... of each side --differences--> GroupDifference, one per transport and direction
                                                  FigureDifference: the rate, then other figures
                                                status: 0 no regression, 1 regression, 3 cannot tell

Runs are the samples. From 4 runs a side on, the exact Mann-Whitney test decides, and the Hodges-Lehmann shift
says by how much. One run a side is compared within itself: a statement about these two runs.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from iperfpy.sampling.order_statistics import (
    FEWEST_A_SIDE,
    MedianInterval,
    Shift,
    block_length,
    compare_runs,
    compare_series,
    further_runs,
    median_interval,
)
from iperfpy.store.run_samples import Group, RunSample

SHOWN_EFFECT = 0.05
"""Change of the first figure, as a share, that a comparison must be able to show, unless the user names
another one."""
LEVELS = (0.032, 0.009)
"""p up to which a difference of the first figure of a group is believed, and of the second one. Of 5 + 5 runs
the exact test reaches 0.0317 and 0.0079."""
REST_LEVEL = 0.004
"""The same for all further figures together; of 6 + 6 runs the test reaches 0.0022. The sum keeps the chance
of any false difference in a group below 5 %."""
SEED = 1
"""Of the bootstrap, so that a comparison repeats."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is compared.

    Parameters
    ----------
    name : key of `RunSample.figures`, and in JSON; the unit at its end
    title : in the text
    more_is_better : True for a rate
    least : shift that counts, in the unit of the figure; a smaller one is no difference
    share : True if a shift is given as a share of the first side; False: in the unit of the figure
    """

    name: str
    title: str
    more_is_better: bool
    least: float = 0.0
    share: bool = False


FIGURES = (
    Figure("bits_per_second", "rate", True, share=True),
    Figure("message_p99_us", "message P99", False, least=1_000),
    Figure("message_p95_us", "message P95", False, least=1_000),
    Figure("rtt_us", "RTT", False, least=1_000),
    Figure("resent_percent", "resent", False, least=0.1),
    Figure("loss_percent", "loss", False, least=0.1),
)
"""In the order of a group: the first one that both sides have decides the exit status 3."""


class ChangeVerdict(enum.StrEnum):
    """The result for one figure."""

    WORSE = "worse"
    BETTER = "better"
    ALIKE = "alike"
    """Any difference is smaller than the one that counts, or than the noise."""
    UNKNOWN = "unknown"
    """Too few runs to tell."""


@dataclass(frozen=True, slots=True)
class FigureDifference:
    """One figure of one group.

    Parameters
    ----------
    first, second : median of each side, with its interval or the range
    verdict : see `ChangeVerdict`
    absolute : the shift in the unit of the figure; None: too few runs
    shift : the shift in the form of the figure, which is a share of the first side or its unit
    p : of the exact test; None: one run a side, or too few
    within_one_run : True if the intervals of one run a side were compared
    fails : True if the figure is worse by the bound of the user, or by any amount without one
    further : runs of each side that are still needed to show the bound; None: not known
    """

    figure: Figure
    first: MedianInterval
    second: MedianInterval
    verdict: ChangeVerdict
    absolute: Shift | None = None
    shift: Shift | None = None
    p: float | None = None
    within_one_run: bool = False
    fails: bool = False
    further: int | None = None

    @property
    def noise(self) -> float | None:
        """Largest shift that the interval leaves possible, in the form of `shift`."""
        if self.shift is None or self.shift.low is None or self.shift.high is None:
            return None
        return max(abs(self.shift.low), abs(self.shift.high))


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """One transport in one direction; `figures` are in the order of `FIGURES`, and there is at least one."""

    group: Group
    figures: tuple[FigureDifference, ...]

    @property
    def within_one_run(self) -> bool:
        """True if the two sides are one run each, compared by their intervals."""
        return self.figures[0].within_one_run

    @property
    def status(self) -> int:
        """0: no regression; 1: a figure is worse; 3: the first figure cannot be told."""
        if any(one.fails for one in self.figures):
            return 1
        return 3 if self.figures[0].verdict is ChangeVerdict.UNKNOWN else 0


@dataclass(frozen=True, slots=True)
class Difference:
    """The whole comparison.

    Parameters
    ----------
    groups : those of both sides
    only : names of the groups that one side alone has, by side
    bound : share of the first figure below which a fall is accepted; None: any regression fails
    """

    groups: tuple[GroupDifference, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    bound: float | None = None

    @property
    def status(self) -> int:
        """The exit status: 1 before 3 before 0."""
        found = {one.status for one in self.groups}
        return 1 if 1 in found else 3 if 3 in found else 0


def differences(
    first: Sequence[RunSample], second: Sequence[RunSample], bound: float | None = None
) -> Difference:
    """Compare two sides. `bound`: share, above 0, of the fall that the user does not accept."""
    sides = _grouped(first), _grouped(second)
    common = [group for group in sides[0] if group in sides[1]]
    groups = [_group(group, sides[0][group], sides[1][group], bound) for group in common]
    only = tuple(tuple(group.name for group in side if group not in common) for side in sides)
    return Difference(tuple(one for one in groups if one is not None), (only[0], only[1]), bound)


# -- parts


def _grouped(samples: Sequence[RunSample]) -> dict[Group, list[RunSample]]:
    groups: dict[Group, list[RunSample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return groups


def _values(samples: Sequence[RunSample], name: str) -> list[float]:
    found = (one.figures.get(name) for one in samples)
    return [value for value in found if value is not None and math.isfinite(value)]


def _group(
    group: Group, first: Sequence[RunSample], second: Sequence[RunSample], bound: float | None
) -> GroupDifference | None:
    """The figures that both sides have in every run; None if there is none."""
    known = [
        (figure, values)
        for figure in FIGURES
        if all(values := (_values(first, figure.name), _values(second, figure.name)))
    ]
    if not known:
        return None
    rest = REST_LEVEL / max(1, len(known) - len(LEVELS))
    figures = []
    for number, (figure, values) in enumerate(known):
        level = LEVELS[number] if number < len(LEVELS) else rest
        if len(first) == len(second) == 1:
            figures.append(_within_one_run(figure, values, first[0], second[0], bound))
        else:
            figures.append(_between_runs(figure, values, level, bound))
    return GroupDifference(group, tuple(figures))


def _between_runs(
    figure: Figure, values: tuple[list[float], list[float]], level: float, bound: float | None
) -> FigureDifference:
    """Compare runs by the exact test; `level` is the p up to which a difference is believed."""
    first, second = median_interval(values[0]), median_interval(values[1])
    further = further_runs(*values, bound or SHOWN_EFFECT)
    lacking = FEWEST_A_SIDE - min(map(len, values))
    if lacking > 0:
        return FigureDifference(
            figure, first, second, ChangeVerdict.UNKNOWN, further=max(lacking, further or 0)
        )
    runs = compare_runs(*values)
    shift = _form(figure, runs.relative, runs.shift, first.median)
    limit = _limit(figure, first.median, bound or SHOWN_EFFECT)
    found = runs.p <= level
    verdict = _verdict(figure, shift, limit, found=found)
    fails = verdict is ChangeVerdict.WORSE and (bound is None or abs(shift.value) >= limit)
    if verdict is ChangeVerdict.WORSE and not fails and _reaches(figure, shift, limit):
        verdict = ChangeVerdict.UNKNOWN  # a fall, but perhaps one that the user accepts
    if verdict is ChangeVerdict.UNKNOWN:
        further = max(1, further or 0)
    return FigureDifference(
        figure, first, second, verdict, runs.shift, shift, runs.p, fails=fails, further=further
    )


def _within_one_run(
    figure: Figure,
    values: tuple[list[float], list[float]],
    first: RunSample,
    second: RunSample,
    bound: float | None,
) -> FigureDifference:
    """Compare one run a side by the interval series of the rate; other figures have none."""
    medians = median_interval(values[0]), median_interval(values[1])
    if figure is not FIGURES[0] or not first.series or not second.series:
        return FigureDifference(figure, *medians, ChangeVerdict.UNKNOWN, further=FEWEST_A_SIDE - 1)
    rtt_us = max((one.figures.get("rtt_us") or 0.0) for one in (first, second))
    block = block_length(min(first.interval_s, second.interval_s), rtt_us / 1e6)
    series = compare_series(first.series, second.series, block, SEED)
    shift = _form(figure, series.relative, series.shift, medians[0].median)
    # The variation between runs is not known: a difference below the limit is none, however steady the runs.
    limit = _limit(figure, medians[0].median, bound or SHOWN_EFFECT)
    verdict = _verdict(figure, shift, limit, found=shift.excludes_zero and abs(shift.value) >= limit)
    return FigureDifference(
        figure,
        *medians,
        verdict,
        series.shift,
        shift,
        within_one_run=True,
        fails=verdict is ChangeVerdict.WORSE,
        further=FEWEST_A_SIDE - 1 if verdict is ChangeVerdict.UNKNOWN else None,
    )


def _form(figure: Figure, relative: Shift | None, shift: Shift, base: float) -> Shift:
    """The shift as a share if the figure is given so: of the first median, where a run has a rate of 0."""
    if not figure.share or relative is not None:
        return relative if figure.share and relative is not None else shift
    scale = 1 / base if base else math.inf
    low, high = (None if end is None else end * scale if end else 0.0 for end in (shift.low, shift.high))
    return Shift(shift.value * scale if shift.value else 0.0, low, high)


def _limit(figure: Figure, base: float, bound: float) -> float:
    """The bound in the form of the figure's shift, and at least the shift that counts."""
    return bound if figure.share else max(figure.least, bound * abs(base))


def _verdict(figure: Figure, shift: Shift, limit: float, *, found: bool) -> ChangeVerdict:
    """The verdict; `found`: True if the shift is beyond the noise."""
    if found and abs(shift.value) > figure.least:
        return ChangeVerdict.BETTER if (shift.value > 0) == figure.more_is_better else ChangeVerdict.WORSE
    return ChangeVerdict.UNKNOWN if not found and _reaches(figure, shift, limit) else ChangeVerdict.ALIKE


def _reaches(figure: Figure, shift: Shift, limit: float) -> bool:
    """True if a change for the worse by the limit is possible, or if there is no interval."""
    if shift.low is None or shift.high is None:
        return True
    return (-shift.low if figure.more_is_better else shift.high) >= limit
