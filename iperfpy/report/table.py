"""The layout of a table: the first one of these that fits the terminal.

1. One header line, with the units in the titles.
2. Short notes at the end of a line.
3. Two header lines: units move below the titles, gaps shrink, and figures lose decimals.
4. Both.
5. Without the column of the lowest priority (of equal ones the last), then without the next one, and so on.
   Interval and bandwidth stay.

A pipe always has room, so its table is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from iperfpy.report.columns import ALWAYS_SHOWN, Column, Line
from iperfpy.report.screen import Span

NOTES: Mapping[str, str] = {"(omitted)": "(o)", "sender": "snd", "receiver": "rcv"}
"""The notes at the end of a line, and their short forms for a narrow table."""

_DECIMAL = re.compile(r"(\.\d+)\d\b|(?<=\d)\.\d\b")
"""The last decimal of each number, with the point if it is the only one."""
_FIGURES = re.compile(r"[-\d.]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of a table's columns. `narrow`: two header lines; `brief`: also short notes."""

    columns: tuple[Column, ...]
    narrow: bool = False
    brief: bool = False

    @property
    def gap(self) -> str:
        return " " if self.narrow else "  "

    def heads(self) -> list[str]:
        """The one or two lines of the header, without the label."""
        if not self.narrow:
            return [self.gap.join(_placed(one, one.title, one.width) for one in self.columns)]
        words = [(one, *one.words) for one in self.columns]
        return [
            self.gap.join(_placed(one, title, one.narrow) for one, title, _ in words),
            self.gap.join(_placed(one, unit, one.narrow) for one, _, unit in words),
        ]

    def cell(self, column: Column, line: Line) -> Span:
        """One cell, followed by its gap, and its style."""
        text = column.cell(line)
        if self.narrow:
            text = _placed(column, squeezed(text, column.narrow), column.narrow)
        else:
            text = _placed(column, text, column.width)
        return text + self.gap, column.style(line)

    def blank(self, column: Column, text: str) -> Span:
        """A text in a cell's place."""
        return _placed(column, text, column.narrow if self.narrow else column.width) + self.gap, ""

    def note(self, text: str) -> str:
        """The note in the form that this layout has room for."""
        return NOTES.get(text, text) if self.brief else text

    @property
    def longest_note(self) -> int:
        return max(len(self.note(text)) for text in NOTES)

    @property
    def size(self) -> int:
        """Characters from the first column to the end of the gap behind the last one."""
        widths = (one.narrow if self.narrow else one.width for one in self.columns)
        return sum(width + len(self.gap) for width in widths)


def layout_for(columns: Sequence[Column], label: int, room: int | None) -> Layout:
    """The first layout that fits, or the narrowest one if none does.

    Parameters
    ----------
    label : characters before the first column
    room : characters of a line; None: no limit
    """
    for layout in _layouts(tuple(columns)):
        if room is None or label + layout.size + layout.longest_note <= room:
            break
    return layout


def _layouts(columns: tuple[Column, ...]) -> Iterator[Layout]:
    """The layouts, in the order in which they are tried."""
    for narrow in (False, True):
        for brief in (False, True):
            yield Layout(columns, narrow, brief)
    while optional := [one for one in columns if one.priority < ALWAYS_SHOWN]:
        # `min` takes the first of equal ones: the last column, from the right.
        out = min(reversed(optional), key=lambda one: one.priority)
        columns = tuple(one for one in columns if one is not out)
        yield Layout(columns, narrow=True, brief=True)


def squeezed(text: str, width: int) -> str:
    """The text without the blanks, and then the decimals, that do not fit; of an interval both ends lose the
    same number of decimals. Whole digits are never cut; another text is."""
    while len(text) > width and text != text.strip():
        text = text[:-1] if text.endswith(" ") else text[1:]
    while len(text) > width and (shorter := _DECIMAL.sub(r"\1", text)) != text:
        text = shorter
    return text if len(text) <= width or _FIGURES.fullmatch(text) else f"{text[: width - 1]}~"


def _placed(column: Column, text: str, width: int) -> str:
    return text.ljust(width) if column.left else text.rjust(width)
