"""The layout of a table: one header line if there is room, else two and narrower columns.

A pipe always has room. On a terminal that is too narrow, units move below the titles, gaps shrink, and
figures lose decimals; no column is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iperfpy.report.columns import Column, Line
from iperfpy.report.screen import Span

NOTES: Mapping[str, str] = {"(omitted)": "(o)", "sender": "snd", "receiver": "rcv"}
"""The notes at the end of a line, and their short forms for a narrow table."""


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
            text = _placed(column, squeezed(text, column.narrow, column.left), column.narrow)
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
    """The widest layout that fits, or the narrowest one if none does.

    Parameters
    ----------
    label : characters before the first column
    room : characters of a line; None: no limit
    """
    *tried, smallest = (
        Layout(tuple(columns), narrow, brief) for narrow in (False, True) for brief in (False, True)
    )
    fitting = (one for one in tried if room is None or label + one.size + one.longest_note <= room)
    return next(fitting, smallest)


def squeezed(text: str, width: int, left: bool) -> str:
    """The text without the blanks, and then the decimals, that do not fit. Whole digits are never cut."""
    while len(text) > width and text != text.strip():
        text = text[:-1] if text.endswith(" ") else text[1:]
    while len(text) > width and not left and "." in text:
        text = text[:-1].removesuffix(".")
    return text


def _placed(column: Column, text: str, width: int) -> str:
    return text.ljust(width) if column.left else text.rjust(width)
