"""Panels of a timeline as text: throughput and round-trip time below the table of a test (`--plot`).

plotext draws. Lines are told apart by their characters, and on a terminal also by colour. Without Unicode (a
dumb terminal, another encoding) only ASCII is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from iperfpy.errors import StartError
from iperfpy.report.pictures.axis_scale import round_ticks, short_number
from iperfpy.report.pictures.page_model import Number, Panel, Timeline, Trace
from iperfpy.report.pictures.thinning import thinned

PANELS, HEIGHT = 2, 13
"""Panels that are drawn, and the lines of each."""
NARROWEST, WIDEST = 40, 160
MARKERS = ("braille", "*", "o", "+", "x", "#", "@", "%")
ASCII_MARKERS = (".", *MARKERS[1:])
TO_ASCII = str.maketrans("┌┐└┘├┤┬┴┼─│⢕", "++++||+++-|.")
MISSING = "--plot needs the package plotext, which cannot be loaded ({}): pip install plotext"


def check_library() -> None:
    """Raise `StartError` if plotext cannot be loaded."""
    _plotext()


def _plotext() -> Any:
    try:
        import plotext
    except ImportError as error:  # its compiled part may be missing as well
        raise StartError(MISSING.format(str(error).partition("\n")[0])) from error
    return plotext


def plot_lines(timeline: Timeline, width: int, *, colour: bool, ascii: bool) -> Iterator[str]:
    """The lines of the first two panels, at most `width` characters each. Raises `StartError` without
    plotext.

    `colour`: with escape sequences of ANSI. `ascii`: with the characters of ASCII only.
    """
    width = min(max(width, NARROWEST), WIDEST)
    shown = thinned(timeline, 2 * width)
    for panel in shown.panels[:PANELS]:
        yield ""
        yield _heading(panel, ascii=ascii)
        yield from _panel(panel, shown, width, colour=colour, ascii=ascii)


def _heading(panel: Panel, *, ascii: bool) -> str:
    """The title with its unit, and the character of each line where there are several."""
    names = [f"{_sign(place, ascii=ascii)} {trace.name}" for place, trace in enumerate(panel.traces)]
    legend = f":  {'  '.join(names)}" if len(names) > 1 else ""
    return f"{panel.title}, {panel.unit}{legend}" if panel.unit else f"{panel.title}{legend}"


def _sign(place: int, *, ascii: bool) -> str:
    marker = (ASCII_MARKERS if ascii else MARKERS)[place % len(MARKERS)]
    return "⠒" if marker == "braille" else marker


def _panel(panel: Panel, timeline: Timeline, width: int, *, colour: bool, ascii: bool) -> list[str]:
    library = _plotext()
    # The library's own limits follow the terminal, which may be narrower than a pipe is assumed to be.
    library.terminal.limit(False, False)
    figure = library.figure
    figure.clear()
    figure.theme("simple" if colour else "colorless")
    figure.plot_size(width, HEIGHT)
    figure.legend(False)
    edges = [*timeline.starts_s, timeline.end_s]
    middles = [(start + end) / 2 for start, end in pairwise(edges)]
    markers = ASCII_MARKERS if ascii else MARKERS
    for place, trace in enumerate(panel.traces):
        for times, values in _stretches(middles, trace):
            signal = figure.signal(times, values, marker=markers[place % len(markers)])
            figure.draw(signal.lines())
    figure.ruler("x").lim(edges[0], edges[-1])
    figure.ruler("x").ticks(*_ticks(edges[0], edges[-1], width // 12))
    values = [value for trace in panel.traces for value in trace.values if value is not None]
    low, high = (0.0 if panel.from_zero else min(values, default=0.0)), max(values, default=0.0)
    high = high + 0.05 * (high - low) or 1.0
    figure.ruler("y").lim(low, high)
    figure.ruler("y").ticks(*_ticks(low, high, 4))
    figure.label("seconds", "x")
    text: str = figure.build().string(colorless=not colour)
    figure.clear()
    if ascii:
        text = text.translate(TO_ASCII)
    return [line.rstrip() for line in text.splitlines()]


def _ticks(low: float, high: float, about: int) -> tuple[list[float], list[str]]:
    ticks = round_ticks(low, high, about)
    return ticks, [short_number(tick) for tick in ticks]


def _stretches(times: Sequence[float], trace: Trace) -> Iterator[tuple[list[float], list[float]]]:
    """The parts of a line between gaps."""
    known: list[tuple[float, float]] = []
    ends: tuple[Number, ...] = (*trace.values, None)
    for time, value in zip((*times, 0.0), ends, strict=True):
        if value is not None:
            known.append((time, value))
        elif known:
            yield [time for time, _ in known], [value for _, value in known]
            known = []
