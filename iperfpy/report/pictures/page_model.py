"""The content of a report with pictures, as plain records: no library, no colour, no markup.

    Run, or a JSON document --*_page.py--> Page --html_page.py--> one HTML file
                                                --png_page.py--> one image

Page
  headlines            the few figures that answer the question
  verdict              conclusions in words
  blocks               in the order in which they are shown:
    Timeline             panels and ribbons over one time axis
    Scatter              rate against delay, one cloud per contender
    Distribution         cumulative shares, with the tail on a logarithmic axis
    Boxes                spread of one figure, one box per contender
    Table, Facts         text in cells
  command              repeats the measurement

Every figure is stored in the unit that its block names. None means not measured. `slot` is the number of a
contender in the whole page: the same colour, dash and marker in every block.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, cos, exp, hypot, log, sin, sqrt
from statistics import quantiles

Number = float | None
Point = tuple[float, float]

CURVE_POINTS = 240
"""Points of one cumulative distribution."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One line of a panel.

    Parameters
    ----------
    values : one per interval of the timeline
    lows, highs : bounds of each interval, drawn as a band around the line; empty: none
    """

    name: str
    slot: int
    values: tuple[Number, ...]
    lows: tuple[Number, ...] = ()
    highs: tuple[Number, ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram of a timeline. `from_zero`: the value axis begins at 0."""

    title: str
    unit: str
    traces: tuple[Trace, ...]
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class LimitShare:
    """The share of each interval, 0 to 1, for which one limit held the sender."""

    name: str
    slot: int
    shares: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Ribbon:
    """The limits of one sender over time."""

    title: str
    limits: tuple[LimitShare, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Panels and ribbons that share a time axis.

    Parameters
    ----------
    starts_s : beginning of each interval, seconds; strictly increasing
    end_s : end of the last interval
    note : a sentence about the intervals
    """

    title: str
    starts_s: tuple[float, ...]
    end_s: float
    panels: tuple[Panel, ...]
    ribbons: tuple[Ribbon, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a scatter or of a distribution. `inverted`: values fall from left to right."""

    title: str
    unit: str
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Cloud:
    """The points (x, y) of one contender in a scatter. `joined`: by a line, in order, in place of the
    ellipse."""

    name: str
    slot: int
    points: tuple[Point, ...]
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Scatter:
    """Clouds of points, each with the ellipse of one standard deviation around its mean."""

    title: str
    x: Axis
    y: Axis
    clouds: tuple[Cloud, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """One cumulative distribution.

    Parameters
    ----------
    points : (value, share of the samples that are no larger), increasing in both
    samples : number of samples, 0: not known
    """

    name: str
    slot: int
    points: tuple[Point, ...]
    samples: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A value to compare with, drawn as a line across a block."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """Cumulative distributions over one value axis; the tail is stretched: 90, 99, 99.9 %."""

    title: str
    x: Axis
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """The spread of one contender's figure. `values` are all its samples, in any order; not empty."""

    name: str
    slot: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes side by side: the median, the quartiles, and every sample."""

    title: str
    x: Axis
    boxes: tuple[Box, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header. `names`: number of columns from the left that are names, not figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a name and a text."""

    title: str
    rows: tuple[tuple[str, str], ...]


Block = Timeline | Scatter | Distribution | Boxes | Table | Facts


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure that answers the question, such as 18.8, "Mbit/s", "received"."""

    value: str
    unit: str
    name: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One conclusion: its label, such as "up", the sentence, and further lines (label, text)."""

    label: str
    sentence: str
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Parameters
    ----------
    title, subtitle : one line each
    unix_time : beginning of the measurement, seconds since the epoch; None: not known
    headlines, verdict, blocks : as the module describes
    command : the words that repeat the measurement, for a shell; empty: not known
    warnings : sentences about conditions that limit the result
    error : sentence that ended the measurement early, or empty
    program : name and version of the program that measured
    """

    title: str
    subtitle: str = ""
    unix_time: float | None = None
    headlines: tuple[Headline, ...] = ()
    verdict: tuple[Statement, ...] = ()
    blocks: tuple[Block, ...] = ()
    command: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    program: str = ""


@dataclass(frozen=True, slots=True)
class Ellipse:
    """The points at one standard deviation around a mean, along the main axes of the covariance.

    Parameters
    ----------
    centre : mean of x, mean of y
    first, second : half axes, vectors in the units of x and y
    """

    centre: Point
    first: Point
    second: Point


def ellipse_of(points: Sequence[Point]) -> Ellipse | None:
    """The ellipse of the points' sample covariance; None for fewer than three points.

    Its half axes are the eigenvectors of [[a, b], [b, c]] times the square roots of the eigenvalues
    (a + c) / 2 +- hypot((a - c) / 2, b).
    """
    count = len(points)
    if count < 3:
        return None
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    a = sum((x - mean_x) ** 2 for x, _ in points) / (count - 1)
    c = sum((y - mean_y) ** 2 for _, y in points) / (count - 1)
    b = sum((x - mean_x) * (y - mean_y) for x, y in points) / (count - 1)
    middle, radius = (a + c) / 2, hypot((a - c) / 2, b)
    angle = atan2(2 * b, a - c) / 2
    # Rounding may leave a tiny negative eigenvalue where all points lie on a line.
    long, short = sqrt(max(0.0, middle + radius)), sqrt(max(0.0, middle - radius))
    return Ellipse(
        (mean_x, mean_y),
        (long * cos(angle), long * sin(angle)),
        (-short * sin(angle), short * cos(angle)),
    )


def quantile_curve(name: str, slot: int, samples: Sequence[float], most: int = CURVE_POINTS) -> Curve:
    """The distribution of the samples, thinned by `thinned_curve`.

    The k-th smallest of n samples has the share k / (n + 1) (Weibull's plotting position), so that the
    largest one is not shown as 100 %.
    """
    ordered = sorted(samples)
    count = len(ordered)
    points = [(value, rank / (count + 1)) for rank, value in enumerate(ordered, 1)]
    return Curve(name, slot, thinned_curve(points, most), count)


def thinned_curve(points: Sequence[Point], most: int = CURVE_POINTS) -> tuple[Point, ...]:
    """At most `most` points of a cumulative distribution: half of them spread evenly over the shares, half
    over the logarithm of the rest, 1 - share. The first and the last point stay."""
    if len(points) <= most:
        return tuple(points)
    half, least, greatest = most // 2, points[0][1], points[-1][1]
    shares = [point[1] for point in points]
    tail = log(1 - greatest) - log(1 - least)
    steps = [step / (half - 1) for step in range(half)]
    wanted = [least + (greatest - least) * step for step in steps]
    wanted += [1 - exp(log(1 - least) + tail * step) for step in steps]
    chosen = {min(bisect_left(shares, share), len(points) - 1) for share in wanted}
    return tuple(points[index] for index in sorted({0, *chosen, len(points) - 1}))


def quartiles(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Minimum, lower quartile, median, upper quartile, maximum; quartiles are interpolated (R's type 7)."""
    ordered = sorted(values)
    # Before Python 3.13, `quantiles` refuses a single value.
    lower, middle, upper = quantiles(ordered if len(ordered) > 1 else ordered * 2, method="inclusive")
    return ordered[0], lower, middle, upper, ordered[-1]
