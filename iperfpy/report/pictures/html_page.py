"""A page as one HTML file that needs no network: style, script, data and charts are inside.

    Page --thinned--> parts: headlines, verdict, panels, shapes, tables, facts, command
         --script_data--> values of the panels      uPlot draws them (page.js)
         --svg_shapes---> ribbons, scatter, distribution, boxes

uPlot comes from the package youplot, which carries it. The page forbids itself every request, and every
script and style but its own (a Content-Security-Policy with their hashes). It has at most `LARGEST_BYTES`: if
it would be larger, its panels and curves get fewer points, then the last pictures are left out, and the page
says so.
"""

from __future__ import annotations

import base64
import hashlib
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from itertools import groupby
from typing import Any

from iperfpy.errors import StartError
from iperfpy.protocols.units import counted
from iperfpy.report.pictures.markup import cleaned, escaped, isolated, script_data, tag
from iperfpy.report.pictures.page_model import (
    Block,
    Boxes,
    Curve,
    Distribution,
    Facts,
    Headline,
    Page,
    Panel,
    Ribbon,
    Scatter,
    Statement,
    Table,
    Timeline,
    Trace,
)
from iperfpy.report.pictures.palette import LOOKS
from iperfpy.report.pictures.svg_shapes import boxes_svg, distribution_svg, lane_svg, scatter_svg, slot_class
from iperfpy.report.pictures.thinning import MOST_POINTS, thinned

LARGEST_BYTES = 200_000
FEWEST_POINTS, MANY_COLUMNS = 24, 8
POINTS_PER_DOT = 5
"""Points of a series for each dot of a scatter, which takes as many more bytes."""
MISSING = "a page (--html) needs the package youplot, which is not installed: pip install youplot"


def html_of(page: Page) -> str:
    """The page, at most `LARGEST_BYTES` in UTF-8. Raises `StartError` without youplot."""
    most = MOST_POINTS
    while True:
        text = _document(page, most)
        if len(text.encode()) <= LARGEST_BYTES:
            return text
        if most <= FEWEST_POINTS:
            return _shortened(page, most)
        most = most * 2 // 3


def _shortened(page: Page, most: int) -> str:
    """The page without its last pictures, or tables as well, as few of them as possible."""
    tables = [place for place, block in enumerate(page.blocks) if isinstance(block, Table)]
    pictures = [place for place, block in enumerate(page.blocks) if not isinstance(block, (Table, Facts))]
    # From the end, because the blocks of a page begin with the most important ones.
    order = [*reversed(pictures), *reversed(tables)]

    def without(count: int) -> str:
        gone = set(order[:count])
        parts = [counted(min(count, len(pictures)), "picture")]
        if count > len(pictures):
            parts.append(counted(count - len(pictures), "table"))
        left_out = (
            f"{' and '.join(parts)} {'is' if count == 1 else 'are'} left out: a page has at most"
            f" {LARGEST_BYTES // 1000} KB. The document of the run (-J) has every figure."
        )
        blocks = tuple(block for place, block in enumerate(page.blocks) if place not in gone)
        return _document(replace(page, blocks=blocks, warnings=(left_out, *page.warnings)), most)

    counts = range(1, len(order) + 1)
    fits = bisect_left(counts, True, key=lambda count: len(without(count).encode()) <= LARGEST_BYTES)
    return without(min(fits + 1, len(order)))


def check_library() -> None:
    """Raise `StartError` if the package that carries uPlot is missing."""
    _uplot()


def _uplot() -> tuple[str, str]:
    """The script and the style of uPlot."""
    try:
        from youplot.vendor import uplot_css, uplot_js
    except ImportError as error:
        raise StartError(MISSING) from error
    return str(uplot_js()), str(uplot_css())


def _document(page: Page, most: int) -> str:
    timelines = [thinned(block, most) for block in page.blocks if isinstance(block, Timeline)]
    # A page without a time axis needs no script.
    library, library_style = _uplot() if timelines else ("", "")
    own = resources.files("iperfpy.report.pictures")
    script, style = (own / "page.js").read_text("utf-8"), (own / "page.css").read_text("utf-8")
    style = library_style + _colours() + style
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)};"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = "".join(
        (
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            tag("title", escaped(page.title)),
            f"<style>{style}</style>",
        )
    )
    body = "\n".join(
        (
            *_top(page),
            tag("main", "\n".join(_main(page, timelines, most // POINTS_PER_DOT))),
            *_scripts(timelines, library, script),
        )
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _scripts(timelines: list[Timeline], library: str, script: str) -> Iterator[str]:
    """The values of the panels, and the scripts that draw them; nothing without a panel."""
    if timelines:
        data = {
            "looks": [{"dash": look.dash} for look in LOOKS],
            "timelines": [_values(one) for one in timelines],
        }
        yield tag("footer", "Charts over time: uPlot, © Leon Sorokin, MIT licence.")
        yield f'<script type="application/json" id="values">{script_data(data)}</script>'
        yield from (f"<script>{library}</script>", f"<script>{script}</script>")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _colours() -> str:
    """The slots' colours as variables, for both grounds, and the classes that use them."""
    light, dark = (
        "".join(f"--c{slot}:{getattr(look, ground)};" for slot, look in enumerate(LOOKS))
        for ground in ("light", "dark")
    )
    classes = "".join(
        f".s{slot}{{--c:var(--c{slot});--dash:{' '.join(map(str, look.dash)) or 'none'}}}"
        for slot, look in enumerate(LOOKS)
    )
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{classes}"


# -- parts


def _top(page: Page) -> Iterator[str]:
    when = (
        "" if page.unix_time is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(page.unix_time))
    )
    parts = [isolated(part) for part in (page.program, when) if part]
    lines = [tag("p", " · ".join(parts), class_="program"), tag("h1", isolated(page.title))]
    if page.subtitle:
        lines.append(tag("p", isolated(page.subtitle), class_="subtitle"))
    if page.error:
        lines.append(tag("p", f"Ended early: {isolated(page.error)}", class_="alarm", role="alert"))
    yield tag("header", "".join(lines))


def _main(page: Page, timelines: list[Timeline], dots: int) -> Iterator[str]:
    if page.headlines:
        yield tag("dl", "".join(map(_headline, page.headlines)), class_="headlines")
    if page.verdict:
        yield tag("section", "<h2>Verdict</h2>" + "".join(map(_statement, page.verdict)), class_="verdict")
    if page.warnings:
        yield _warnings(page.warnings)
    ahead = iter(enumerate(timelines))
    for small, blocks in groupby(page.blocks, _abreast):
        made = [
            _timeline(*next(ahead)) if isinstance(block, Timeline) else _block(block, dots)
            for block in blocks
        ]
        # Small blocks stand side by side where there is room.
        yield tag("div", "".join(made), class_="grid") if small else "".join(made)
    if page.command:
        command = tag("pre", tag("code", escaped(page.command)), tabindex="0")
        yield _section("Repeat it", command)


def _headline(one: Headline) -> str:
    figure = f"<b>{escaped(one.value)}</b> {escaped(one.unit)}"
    return tag("div", tag("dt", isolated(one.name)) + tag("dd", figure))


def _warnings(sentences: tuple[str, ...]) -> str:
    """A warning each; more than two are folded below their number."""
    items = "".join(tag("li", isolated(sentence)) for sentence in sentences)
    word = f"{len(sentences)} warnings" if len(sentences) > 1 else "Warning"
    opened = " open" if len(sentences) <= 2 else ""
    folded = f"<details{opened}><summary>{word}</summary><ul>{items}</ul></details>"
    return tag("section", folded, class_="warning")


def _section(title: str, content: str, note: str = "") -> str:
    below = tag("p", escaped(note), class_="note") if note else ""
    return tag("section", f"<h2>{escaped(title)}</h2>{content}{below}")


def _statement(one: Statement) -> str:
    lines = "".join(tag("dt", escaped(label)) + tag("dd", isolated(text)) for label, text in one.lines)
    sentence = f"<b>{escaped(one.label)}:</b> {isolated(one.sentence)}"
    return tag("p", sentence) + (tag("dl", lines) if lines else "")


def _abreast(block: Block) -> str:
    """The kind of blocks that stand beside this one; empty: it has the whole width."""
    if isinstance(block, Facts):
        return "facts"
    return "" if isinstance(block, (Timeline, Table)) else "shapes"


def _shape(block: Scatter | Distribution | Boxes, dots: int) -> str:
    if isinstance(block, Boxes):
        return boxes_svg(block)
    if isinstance(block, Scatter):
        return scatter_svg(block, dots)
    # The legend is HTML, because text in a picture does not fold on a phone.
    names = "".join(
        tag(
            "li",
            '<svg viewBox="0 0 28 8" aria-hidden="true"><path class="line" d="M0 4H28"/></svg>'
            + isolated(curve.name)
            + _samples(curve),
            class_=slot_class(curve.slot),
        )
        for curve in block.curves
    )
    return tag("ul", names, class_="legend") + distribution_svg(block, dots)


def _samples(curve: Curve) -> str:
    return f" <small>({curve.samples:,} samples)</small>" if curve.samples else ""


def _block(block: Scatter | Distribution | Boxes | Table | Facts, dots: int) -> str:
    if isinstance(block, (Scatter, Distribution, Boxes)):
        return _section(block.title, _shape(block, dots), block.note)
    if isinstance(block, Table):
        head = tag("tr", "".join(_head(cell, block.names, place) for place, cell in enumerate(block.header)))
        rows = "".join(_row(row, block.names) for row in block.rows)
        table = tag("table", tag("thead", head) + tag("tbody", rows))
        many = " many" if len(block.header) > MANY_COLUMNS else ""
        return _section(block.title, tag("div", table, class_=f"wide{many}", tabindex="0"), block.note)
    rows = "".join(tag("dt", escaped(name)) + tag("dd", isolated(text)) for name, text in block.rows)
    return _section(block.title, tag("dl", rows, class_="facts"))


def _head(text: str, names: int, place: int) -> str:
    return tag("th", isolated(text), scope="col", class_="left" if place < names else None)


def _row(cells: tuple[str, ...], names: int) -> str:
    made = (
        tag("th", isolated(cell), scope="row") if place < names else tag("td", isolated(cell))
        for place, cell in enumerate(cells)
    )
    return tag("tr", "".join(made))


# -- time


def _timeline(number: int, one: Timeline) -> str:
    panels = "".join(_panel(number, place, panel) for place, panel in enumerate(one.panels))
    ribbons = "".join(_ribbon(ribbon, one) for ribbon in one.ribbons)
    content = (
        f'<p class="time" data-timeline="{number}" aria-live="polite"> </p>{panels}{ribbons}'
        "<noscript><p>The panels need JavaScript; nothing is fetched from a network.</p></noscript>"
    )
    return _section(one.title, content, one.note)


def _panel(number: int, place: int, panel: Panel) -> str:
    unit = f", {panel.unit}" if panel.unit else ""
    caption = tag("figcaption", f"{escaped(panel.title)}{escaped(unit)}")
    return tag(
        "figure",
        f"{caption}<div class='plot'></div>",
        class_="panel",
        tabindex="0",
        role="group",
        aria_label=cleaned(f"{panel.title}{unit} over time; arrow keys read the values"),
        data_timeline=number,
        data_panel=place,
    )


def _ribbon(ribbon: Ribbon, timeline: Timeline) -> str:
    lanes = []
    edges = [*timeline.starts_s, timeline.end_s]
    for limit in ribbon.limits:
        known = [
            (share, edges[index + 1] - edges[index])
            for index, share in enumerate(limit.shares)
            if share is not None
        ]
        # Intervals may differ in length: the share of the test is weighted by it.
        whole = sum(length for _, length in known) or 1.0
        mean = sum(share * length for share, length in known) / whole
        name = tag("span", f"{isolated(limit.name)} {100 * mean:.0f} %", class_="name")
        lanes.append(tag("div", name + lane_svg(limit, timeline), class_=f"row {slot_class(limit.slot)}"))
    caption = tag("figcaption", f"{escaped(ribbon.title)}, share of each interval")
    return tag("figure", caption + "".join(lanes), class_="ribbon")


def _values(one: Timeline) -> dict[str, Any]:
    """The numbers that the script draws, with four significant digits."""
    return {
        "starts": [round(start, 3) for start in one.starts_s],
        "end": round(one.end_s, 3),
        "panels": [_panel_values(panel) for panel in one.panels],
    }


def _panel_values(panel: Panel) -> dict[str, Any]:
    return {
        "unit": panel.unit,
        "zero": panel.from_zero,
        "traces": [_trace_values(one) for one in panel.traces],
    }


def _trace_values(trace: Trace) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": trace.name,
        "slot": trace.slot % len(LOOKS),
        "values": _short(trace.values),
    }
    if trace.lows:
        made |= {"lows": _short(trace.lows), "highs": _short(trace.highs)}
    return made


def _short(values: tuple[float | None, ...]) -> list[float | int | None]:
    """Numbers in few characters: 18.83, 100, 0.051."""
    made: list[float | int | None] = []
    for value in values:
        short = None if value is None else float(f"{value:.4g}")
        made.append(int(short) if short is not None and short == int(short) else short)
    return made
