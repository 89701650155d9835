"""The pictures of a page as one image: the panels, ribbons and shapes, drawn by matplotlib (extra `plot`)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from math import cos, pi, sin
from typing import Any

from iperfpy.errors import StartError
from iperfpy.report.pictures.axis_scale import WIDE_RANGE
from iperfpy.report.pictures.markup import cleaned_record
from iperfpy.report.pictures.page_model import (
    Axis,
    Block,
    Boxes,
    Distribution,
    Page,
    Panel,
    Ribbon,
    Scatter,
    Timeline,
    Trace,
    ellipse_of,
)
from iperfpy.report.pictures.palette import look
from iperfpy.report.pictures.svg_shapes import FEW_SAMPLES, TAILS, tail
from iperfpy.report.pictures.thinning import thinned

MISSING = "an image (--png) needs matplotlib, which is not installed: pip install 'iperfpy[plot]'"
WIDTH, LEFT, RIGHT, GAP = 10.0, 1.4, 0.25, 0.46
PANEL, LANE, SHAPE, HEAD, LINE = 1.15, 0.24, 2.6, 0.25, 0.24
"""Inches: the image and its margins, the gap above each row of diagrams, heights of diagrams and of text."""
X_TITLE, LEGEND_LINE, SHORT_NAME = 0.38, 0.17, 10
"""Inches of the numbers and the title below an axis, and of a line of a legend; letters of a name of which
two stand on such a line."""
DPI = 110
SHAPES_ABREAST = 3
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a929a",
    "axes.grid": True,
    "grid.color": "#dfe3e7",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    # A title or a host name may have dollar signs, which are no formulas.
    "text.parse_math": False,
}

Draw = Callable[[Any], None]


def check_library() -> None:
    """Raise `StartError` without matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401 - only to learn if it is there
    except ImportError as error:
        raise StartError(MISSING) from error


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the image: its height in inches, and a function for each diagram in it, side by side."""

    height: float
    drawn: tuple[Draw, ...]
    below: float = 0.0


def png_of(page: Page) -> bytes:
    """The image of a page. Raises `StartError` without matplotlib."""
    check_library()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    page = cleaned_record(page)
    rows, lines = [*_rows(page)], _heading(page)
    height = HEAD + LINE * len(lines) + sum(GAP + row.height + row.below for row in rows) + HEAD
    stream = io.BytesIO()
    # A figure of its own, and no pyplot: this draws without a screen, and leaves the caller's settings alone.
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A host name in letters that the font lacks is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        top = height - HEAD
        for number, line in enumerate(lines):
            figure.text(0.02, top / height, line, va="top", fontsize=13 if not number else 9.5)
            top -= LINE
        for row in rows:
            top -= GAP + row.height
            _place(row, figure, top / height, row.height / height)
            top -= row.below
        figure.savefig(stream, format="png")
    return stream.getvalue()


def _place(row: _Row, figure: Any, bottom: float, height: float) -> None:
    """Draw a row. Positions are laid out here, in inches: matplotlib's own layout takes ten times as long."""
    abreast = 1 if len(row.drawn) == 1 and not row.below else max(2, len(row.drawn))
    share = WIDTH / abreast
    margin = LEFT if abreast == 1 else 0.75 * LEFT
    for place, draw in enumerate(row.drawn):
        left = place * share + margin
        draw(figure.add_axes((left / WIDTH, bottom, (share - margin - RIGHT) / WIDTH, height)))


def _heading(page: Page) -> list[str]:
    figures = "    ".join(f"{one.value} {one.unit} {one.name}" for one in page.headlines[:3])
    verdict = [f"{one.label}: {one.sentence}" for one in page.verdict[:2]]
    error = f"Ended early: {page.error}" if page.error else ""
    lines = [page.title, page.subtitle, figures, *verdict, error]
    return [_shortened(line) for line in lines if line]


def _shortened(line: str, most: int = 130) -> str:
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _rows(page: Page) -> Iterator[_Row]:
    """The rows of the image: a panel or a ribbon each, and shapes side by side."""
    several = sum(isinstance(block, Timeline) for block in page.blocks) > 1
    for small, blocks in groupby(
        page.blocks, lambda block: isinstance(block, (Scatter, Distribution, Boxes))
    ):
        if small:
            for some in batched([*blocks], SHAPES_ABREAST):
                below = max(_legend_height(block) for block in some)
                yield _Row(SHAPE, tuple(partial(_shape, block) for block in some), X_TITLE + below)
        else:
            for block in blocks:
                if isinstance(block, Timeline):
                    yield from _timeline(thinned(block), named=several)


def _legend_columns(one: Distribution) -> int:
    return 2 if all(len(curve.name) <= SHORT_NAME for curve in one.curves) else 1


def _legend_height(block: Block) -> float:
    """Inches of the legend below a picture."""
    if not isinstance(block, Distribution):
        return 0.0
    return LEGEND_LINE * (1 + -(-len(block.curves) // _legend_columns(block)))


def batched(items: list[Block], most: int) -> Iterator[tuple[Block, ...]]:
    """The items in tuples of at most `most` (itertools has it since Python 3.12)."""
    for first in range(0, len(items), most):
        yield tuple(items[first : first + most])


def _timeline(one: Timeline, *, named: bool) -> Iterator[_Row]:
    """`named`: the first panel has the title of the timeline before its own."""
    for place, panel in enumerate(one.panels):
        shown = replace(panel, title=f"{one.title}: {panel.title}") if named and not place else panel
        yield _Row(PANEL, (partial(_panel, shown, one),))
    for ribbon in one.ribbons:
        yield _Row(LANE * len(ribbon.limits), (partial(_ribbon, ribbon, one),))


def _panel(panel: Panel, timeline: Timeline, axis: Any) -> None:
    edges = [*timeline.starts_s, timeline.end_s]
    for trace in panel.traces:
        style = look(trace.slot)
        dash = (0, tuple(length / 2 for length in style.dash)) if style.dash else "-"
        name = trace.name
        axis.step(
            edges, _held(trace.values), where="post", color=style.light, linestyle=dash, lw=1.6, label=name
        )
        _band(trace, edges, axis)
    axis.set_title(f"{panel.title}, {panel.unit}" if panel.unit else panel.title)
    _time_axis(timeline, axis)
    if panel.from_zero:
        axis.set_ylim(bottom=0)
    if len(panel.traces) > 1:
        # Beside the title, where it covers no line.
        axis.legend(
            loc="lower right", bbox_to_anchor=(1, 0.98), fontsize=8, frameon=False, ncols=len(panel.traces)
        )


def _time_axis(timeline: Timeline, axis: Any) -> None:
    axis.set_xlim(timeline.starts_s[0], timeline.end_s)
    axis.xaxis.set_major_formatter("{x:g} s")


def _held(values: tuple[float | None, ...]) -> list[float]:
    """The values with the last one repeated, so that its step is drawn; NaN leaves a gap."""
    known = [float("nan") if value is None else value for value in values]
    return [*known, known[-1]]


def _band(trace: Trace, edges: list[float], axis: Any) -> None:
    if trace.lows and trace.highs:
        lows, highs = _held(trace.lows), _held(trace.highs)
        axis.fill_between(edges, lows, highs, step="post", color=look(trace.slot).light, alpha=0.18, lw=0)


def _ribbon(ribbon: Ribbon, timeline: Timeline, axis: Any) -> None:
    edges = [*timeline.starts_s, timeline.end_s]
    widths = [end - start for start, end in pairwise(edges)]
    for lane, limit in enumerate(reversed(ribbon.limits)):
        shares = [0.0 if share is None else 0.85 * share for share in limit.shares]
        axis.bar(edges[:-1], shares, widths, bottom=lane, align="edge", color=look(limit.slot).light, lw=0)
    axis.set_yticks(
        [lane + 0.42 for lane in range(len(ribbon.limits))],
        [limit.name for limit in reversed(ribbon.limits)],
    )
    axis.set_ylim(0, len(ribbon.limits))
    _time_axis(timeline, axis)
    axis.grid(visible=False, axis="y")
    axis.set_title(f"{ribbon.title}, share of each interval")


def _shape(block: Block, axis: Any) -> None:
    if isinstance(block, Scatter):
        _scatter(block, axis)
    elif isinstance(block, Distribution):
        _distribution(block, axis)
    elif isinstance(block, Boxes):
        _boxes(block, axis)


def _scatter(scatter: Scatter, axis: Any) -> None:
    for cloud in scatter.clouds:
        style = look(cloud.slot)
        xs, ys = [x for x, _ in cloud.points], [y for _, y in cloud.points]
        line = f"{style.marker}-" if cloud.joined else style.marker
        axis.plot(xs, ys, line, color=style.light, ms=4, alpha=0.5, label=cloud.name)
        if not cloud.joined and (one := ellipse_of(cloud.points)) is not None:
            turns = [2 * pi * step / 60 for step in range(61)]
            (cx, cy), (ax, ay), (bx, by) = one.centre, one.first, one.second
            around = [(cx + ax * cos(t) + bx * sin(t), cy + ay * cos(t) + by * sin(t)) for t in turns]
            axis.plot([x for x, _ in around], [y for _, y in around], color=style.light, lw=1.4)
    axis.set_title(scatter.title)
    axis.set_ylim(bottom=0)
    _label_x(scatter.x, axis)
    axis.set_ylabel(f"{scatter.y.title}, {scatter.y.unit}")
    if scatter.x.inverted:
        axis.invert_xaxis()
    if len(scatter.clouds) > 1:
        axis.legend(fontsize=8)


def _distribution(one: Distribution, axis: Any) -> None:
    for curve in one.curves:
        style = look(curve.slot)
        dash = (0, tuple(length / 2 for length in style.dash)) if style.dash else "-"
        ys = [tail(share) for _, share in curve.points]
        xs = [value for value, _ in curve.points]
        axis.plot(xs, ys, color=style.light, linestyle=dash, lw=1.6, label=curve.name)
    for mark in one.marks:
        axis.axvline(mark.value, color="#596068", lw=1, ls=":")
        axis.text(mark.value, 0.02, f" {mark.name}", transform=axis.get_xaxis_transform(), fontsize=8)
    values = [value for curve in one.curves for value, _ in curve.points]
    if min(values) > 0 and max(values) / min(values) > WIDE_RANGE:
        axis.set_xscale("log")
    top = axis.get_ylim()[1]
    shown = [(tail(share), text) for share, text in TAILS if tail(share) <= top]
    axis.set_yticks([position for position, _ in shown], [text for _, text in shown])
    axis.set_title(one.title)
    axis.set_ylabel("share of the samples")
    _label_x(one.x, axis)
    # Below the axes: curves begin and end in every corner of them.
    axis.legend(
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(-0.05, -X_TITLE / SHAPE),
        ncols=_legend_columns(one),
        borderaxespad=0.3,
        frameon=False,
    )


def _boxes(boxes: Boxes, axis: Any) -> None:
    rows = list(reversed(boxes.boxes))
    for row, box in enumerate(rows):
        colour = look(box.slot).light
        parts = axis.boxplot(
            [box.values],
            positions=[row],
            orientation="horizontal",
            widths=0.5,
            whis=(0, 100),
            showfliers=False,
        )
        for line in (line for lines in parts.values() for line in lines):
            line.set_color(colour)
        shown = box.values if len(box.values) <= FEW_SAMPLES else ()
        axis.plot(shown, [row] * len(shown), look(box.slot).marker, color=colour, ms=3, alpha=0.5)
    axis.set_yticks(range(len(rows)), [box.name for box in rows])
    axis.set_title(boxes.title)
    _label_x(boxes.x, axis)


def _label_x(one: Axis, axis: Any) -> None:
    axis.set_xlabel(f"{one.title}, {one.unit}")
