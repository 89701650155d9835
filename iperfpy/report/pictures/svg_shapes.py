"""Ribbons, scatters, distributions (CDF) and boxes as inline SVG.

Colours come from the style sheet (classes s0 to s7), so that a picture follows a light or dark ground. Shapes
of points and dashes of lines differ as well. Sizes of text are left to the style sheet: a phone shows it
larger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import cos, log10, pi, sin

from iperfpy.report.pictures.axis_scale import AxisScale, scale_for, short_number
from iperfpy.report.pictures.markup import escaped, tag
from iperfpy.report.pictures.page_model import (
    CURVE_POINTS,
    Axis,
    Box,
    Boxes,
    Cloud,
    Curve,
    Distribution,
    Ellipse,
    LimitShare,
    Point,
    Scatter,
    Timeline,
    ellipse_of,
    quartiles,
    thinned_curve,
)
from iperfpy.report.pictures.palette import LOOKS, look

WIDTH, HEIGHT = 400, 290
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 28, 46
"""Margins: `99.99 %` in the larger text of a phone fits on the left."""
LETTER_WIDTH, LINE_HEIGHT = 8.0, 16.0
"""Room for a letter of a name, in the larger text of a phone."""
MOST_POINTS = 400
"""Points of a scatter that are drawn, all clouds together."""
FEW_SAMPLES = 60
"""Samples of a box that are drawn; more would be a band."""
FEWEST_CURVE_POINTS = 16
"""Points of a curve on a page that has many of them."""
MOST_COLUMNS = 300
"""Columns of a ribbon's lane; more intervals are averaged."""
TAILS = ((0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"))


def slot_class(slot: int) -> str:
    """The class of a slot in the style sheet."""
    return f"s{slot % len(LOOKS)}"


# -- a scatter


def scatter_svg(scatter: Scatter, most: int = MOST_POINTS) -> str:
    """Clouds and their ellipses. `most`: points that are drawn; ellipses are those of all points."""
    points = [point for cloud in scatter.clouds for point in cloud.points]
    left, right = (WIDTH - RIGHT, LEFT) if scatter.x.inverted else (LEFT, WIDTH - RIGHT)
    x = scale_for((one for one, _ in points), left, right, may_be_log=True)
    y = scale_for((one for _, one in points), HEIGHT - BOTTOM, TOP, from_zero=True)
    parts = [*_frame(x, y, scatter.x, [(value, short_number(value)) for value in y.ticks()])]
    parts.append(_y_title(scatter.y))
    step = -(-len(points) // most)
    names: list[_Area] = []
    parts += [
        tag("g", "".join(_cloud(cloud, x, y, scatter, step, names)), class_=slot_class(cloud.slot))
        for cloud in scatter.clouds
    ]
    return _picture(scatter.title, parts)


def _cloud(
    cloud: Cloud, x: AxisScale, y: AxisScale, scatter: Scatter, step: int, names: list[_Area]
) -> Iterator[str]:
    """Every `step`-th point, the ellipse of all of them, and the name. `names`: areas of the names so far, to
    which this one is added."""
    placed = [(x.at(one), y.at(other)) for one, other in cloud.points]
    # The ellipse is that of the picture: on a logarithmic axis, of the logarithms.
    ellipse = None if cloud.joined else ellipse_of(placed)
    yield tag("path", class_="dots", d="".join(marker_path(cloud.slot, *point) for point in placed[::step]))
    if ellipse is not None:
        yield tag("path", tag("title", escaped(cloud.name)), class_="ellipse", d=_ellipse_path(ellipse))
    if cloud.joined:
        yield tag("path", class_="line", d=_line(placed))
    mean = ellipse.centre if ellipse is not None else placed[-1 if cloud.joined else 0]
    if ellipse is not None:
        yield tag("path", class_="mean", d=marker_path(cloud.slot, *mean, size=6))
    if len(scatter.clouds) == 1:
        return
    # The name stands beside the mean, on the side with more room.
    on_right = mean[0] < WIDTH / 2
    at, width = mean[0] + (10 if on_right else -10), LETTER_WIDTH * len(cloud.name)
    area = _free_area(at if on_right else at - width, width, mean[1] - 8, names)
    names.append(area)
    yield tag(
        "text",
        escaped(cloud.name),
        class_="name",
        x=_n(at),
        y=_n(area.bottom),
        text_anchor="start" if on_right else "end",
    )


@dataclass(frozen=True, slots=True)
class _Area:
    """The area of a name: a line of text with `bottom` as its base line."""

    left: float
    right: float
    bottom: float

    def meets(self, other: _Area) -> bool:
        beside = self.right < other.left or other.right < self.left
        return not beside and abs(self.bottom - other.bottom) < LINE_HEIGHT


def _free_area(left: float, width: float, bottom: float, taken: Sequence[_Area]) -> _Area:
    """The area nearest to a base line that meets no other one, above it or below it."""
    wanted = _Area(left, left + width, bottom)
    # A free place is the wanted one, or directly above or below another name.
    edges = (one.bottom + sign * LINE_HEIGHT for one in taken for sign in (-1, 1))
    places = sorted([bottom, *edges], key=lambda place: abs(place - bottom))
    areas = (replace(wanted, bottom=place) for place in places if TOP < place < HEIGHT - BOTTOM)
    return next((one for one in areas if not any(one.meets(other) for other in taken)), wanted)


def _ellipse_path(one: Ellipse, steps: int = 40) -> str:
    (cx, cy), (ax, ay), (bx, by) = one.centre, one.first, one.second
    turns = [2 * pi * step / steps for step in range(steps)]
    return _line([(cx + ax * cos(t) + bx * sin(t), cy + ay * cos(t) + by * sin(t)) for t in turns]) + "z"


# -- a distribution


def distribution_svg(one: Distribution, most: int = CURVE_POINTS) -> str:
    """Cumulative shares; each step of the upper half is a tenth of the rest. `most`: points of each curve."""
    curves = [
        replace(curve, points=thinned_curve(curve.points, max(most, FEWEST_CURVE_POINTS)))
        for curve in one.curves
    ]
    one = replace(one, curves=tuple(curves))
    values = [value for curve in one.curves for value, _ in curve.points] + [mark.value for mark in one.marks]
    x = scale_for(values, LEFT, WIDTH - RIGHT, may_be_log=True)
    top = max(tail(share) for curve in one.curves for _, share in curve.points)
    y = AxisScale(0.0, max(1.0, top * 1.04), HEIGHT - BOTTOM, TOP)
    parts = [*_frame(x, y, one.x, [(tail(share), text) for share, text in TAILS if tail(share) <= y.high])]
    parts.append(_y_title(Axis("share of the samples", "%")))
    for number, mark in enumerate(one.marks):
        at = _n(x.at(mark.value))
        parts.append(tag("path", class_="mark", d=f"M{at} {TOP}V{HEIGHT - BOTTOM}"))
        text = f"{mark.name} {short_number(mark.value)} {one.x.unit}"
        parts.append(tag("text", escaped(text), x=_n(x.at(mark.value) + 4), y=TOP + 10 + 14 * number))
    parts += [tag("g", _curve(curve, x, y), class_=slot_class(curve.slot)) for curve in one.curves]
    return _picture(one.title, parts)


def tail(share: float) -> float:
    """The position of a share on an axis on which 90, 99 and 99.9 % are equally far apart."""
    return -log10(1.0 - min(share, 1 - 1e-9))


def _curve(curve: Curve, x: AxisScale, y: AxisScale) -> str:
    placed = [(x.at(value), y.at(tail(share))) for value, share in curve.points]
    every = max(1, -(-len(placed) // (8 if len(placed) > 2 * FEWEST_CURVE_POINTS else 4)))
    marks = "".join(marker_path(curve.slot, *point) for point in placed[every // 2 :: every])
    return tag("path", class_="line", d=_line(placed)) + tag("path", class_="dots solid", d=marks)


# -- boxes

ROW, BAR = 40, 14


def boxes_svg(boxes: Boxes) -> str:
    """A row per contender: its name, then the box from quartile to quartile, whiskers to the extremes."""
    values = [value for box in boxes.boxes for value in box.values]
    x = scale_for(values, LEFT / 3, WIDTH - RIGHT)
    height = TOP + ROW * len(boxes.boxes) + BOTTOM
    parts = []
    for value in x.ticks():
        at = _n(x.at(value))
        parts.append(tag("path", class_="grid", d=f"M{at} {TOP}V{height - BOTTOM}"))
        parts.append(tag("text", short_number(value), x=at, y=height - BOTTOM + 16, text_anchor="middle"))
    parts.append(_x_title(boxes.x, height))
    for row, box in enumerate(boxes.boxes):
        parts.append(tag("g", _box(box, x, TOP + ROW * row), class_=slot_class(box.slot)))
    return _picture(boxes.title, parts, height)


def _box(box: Box, x: AxisScale, top: float) -> str:
    low, first, middle, third, high = (x.at(value) for value in quartiles(box.values))
    centre, upper = top + ROW - BAR / 2 - 4, top + ROW - BAR - 4
    shown = box.values if len(box.values) <= FEW_SAMPLES else ()
    dots = "".join(marker_path(box.slot, x.at(value), centre, size=2) for value in shown)
    text = f"{box.name}: {short_number(quartiles(box.values)[2])}"
    return "".join(
        (
            tag("text", escaped(text), class_="name", x=_n(LEFT / 3), y=_n(top + 14)),
            tag(
                "path",
                class_="whisker",
                d=f"M{_n(low)} {_n(centre)}H{_n(first)}M{_n(third)} {_n(centre)}H{_n(high)}",
            ),
            tag(
                "rect", class_="box", x=_n(first), y=_n(upper), width=_n(max(1.0, third - first)), height=BAR
            ),
            tag("path", class_="dots", d=dots),
            tag("path", class_="median", d=f"M{_n(middle)} {_n(upper)}v{BAR}"),
        )
    )


# -- a ribbon


def lane_svg(limit: LimitShare, timeline: Timeline) -> str:
    """One lane: the share of the limit as the height of a bar. Its x axis is the time of the timeline."""
    edges = [*timeline.starts_s, timeline.end_s]
    columns = _columns(limit.shares, edges)
    d = "".join(
        f"M{_n(start, 3)} 1h{_n(end - start, 3)}v-{_n(share, 2)}h-{_n(end - start, 3)}z"
        for start, end, share in columns
        if share >= 0.005
    )
    start, length = edges[0], edges[-1] - edges[0]
    return tag(
        "svg",
        tag("path", d=d),
        class_="lane",
        viewBox=f"{_n(start, 3)} 0 {_n(length, 3)} 1",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _columns(shares: Sequence[float | None], edges: Sequence[float]) -> Iterator[tuple[float, float, float]]:
    """(start, end, share), neighbours joined where they are equal, averaged where there are too many."""
    width = -(-len(shares) // MOST_COLUMNS)
    merged: tuple[float, float, float] | None = None
    for first in range(0, len(shares), width):
        last = min(first + width, len(shares))
        held = sum((shares[index] or 0.0) * (edges[index + 1] - edges[index]) for index in range(first, last))
        share = round(held / (edges[last] - edges[first]), 2)
        if merged is not None and merged[2] == share:
            merged = (merged[0], edges[last], share)
            continue
        if merged is not None:
            yield merged
        merged = (edges[first], edges[last], share)
    if merged is not None:
        yield merged


# -- pieces


def marker_path(slot: int, x: float, y: float, size: float = 3.0) -> str:
    """The outline of a slot's marker around a position."""
    one, two, s = _n(x), _n(y), _n(size)
    shape = look(slot).marker
    if shape == "o":
        return f"M{_n(x - size)} {two}a{s} {s} 0 1 0 {_n(2 * size)} 0a{s} {s} 0 1 0 -{_n(2 * size)} 0z"
    if shape == "s":
        return f"M{_n(x - size)} {_n(y - size)}h{_n(2 * size)}v{_n(2 * size)}h-{_n(2 * size)}z"
    if shape in "^v":
        sign = 1 if shape == "^" else -1
        return f"M{_n(x - size)} {_n(y + sign * size)}h{_n(2 * size)}L{one} {_n(y - sign * size)}z"
    if shape == "D":
        wide = _n(1.3 * size)
        return f"M{one} {_n(y - 1.3 * size)}l{wide} {wide}L{one} {_n(y + 1.3 * size)}l-{wide} -{wide}z"
    whole = _n(2 * size)
    if shape == "+":
        return f"M{_n(x - size)} {two}h{whole}M{one} {_n(y - size)}v{whole}"
    cross = f"M{_n(x - size)} {_n(y - size)}l{whole} {whole}m0 -{whole}l-{whole} {whole}"
    return cross if shape == "x" else f"{cross}M{_n(x - size)} {two}h{whole}"


def _frame(x: AxisScale, y: AxisScale, axis: Axis, rows: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Grid lines with their numbers, and the title of the x axis."""
    bottom = HEIGHT - BOTTOM
    last: float | None = None
    for value, text in rows:
        at = y.at(value)
        yield tag("path", class_="grid", d=f"M{LEFT} {_n(at)}H{WIDTH - RIGHT}")
        # A number is left out where its neighbour leaves no room.
        if last is None or abs(at - last) >= 15:
            yield tag("text", escaped(text), x=LEFT - 6, y=_n(at + 4), text_anchor="end")
            last = at
    last = None
    for value in sorted(x.ticks(), key=x.at):
        at = x.at(value)
        if last is not None and at - last < 34:
            continue
        last = at
        yield tag("path", class_="grid", d=f"M{_n(at)} {TOP}V{bottom}")
        yield tag("text", short_number(value), x=_n(at), y=bottom + 16, text_anchor="middle")
    yield _x_title(axis, HEIGHT)


def _x_title(axis: Axis, height: float) -> str:
    text = f"{axis.title}, {axis.unit}"
    if axis.inverted:
        text = f"← {text}"  # it grows to the left
    return tag("text", escaped(text), class_="axis", x=WIDTH - RIGHT, y=_n(height - 8), text_anchor="end")


def _y_title(axis: Axis) -> str:
    return tag("text", escaped(f"{axis.title}, {axis.unit}"), class_="axis", x=2, y=TOP - 14)


def _picture(title: str, parts: Sequence[str], height: float = HEIGHT) -> str:
    content = tag("title", escaped(title)) + "".join(parts)
    return tag("svg", content, class_="shape", viewBox=f"0 0 {WIDTH} {_n(height)}", role="img")


def _line(points: Sequence[Point]) -> str:
    """A path through the points, relative, which takes fewer characters."""
    if not points:
        return ""
    rounded = [(round(x, 1), round(y, 1)) for x, y in points]
    first = f"M{_n(rounded[0][0])} {_n(rounded[0][1])}"
    moves = (f"{_n(b[0] - a[0])} {_n(b[1] - a[1])}" for a, b in pairwise(rounded) if a != b)
    return f"{first}l{' '.join(moves)}" if len(rounded) > 1 else first


def _n(value: float, digits: int = 1) -> str:
    """A coordinate in few characters: `12`, `0.5`, `-3.2`; never `-0`."""
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
