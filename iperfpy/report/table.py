"""How columns share a line: one header line where there is room, two and closer columns where there is not.

A pipe always has room. On a terminal that is too narrow for the table, units move below the titles,
gaps shrink and figures lose decimals before they lose their column; nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iperfpy.report.columns import Column, Line
from iperfpy.report.screen import Span

NOTES: Mapping[str, str] = {"(omitted)": "(o)", "sender": "snd", "receiver": "rcv"}
"""What may stand at the end of a line, and how it is said when there is no room."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns of one table stand. `narrow`: two header lines; `brief`: short notes too."""

    columns: tuple[Column, ...]
    narrow: bool = False
    brief: bool = False

    @property
    def gap(self) -> str:
        return " " if self.narrow else "  "

    def heads(self) -> list[str]:
        """The header, a line or two, without the label."""
        if not self.narrow:
            return [self.gap.join(_placed(one, one.title, one.width) for one in self.columns)]
        words = [(one, *one.words) for one in self.columns]
        return [
            self.gap.join(_placed(one, title, one.narrow) for one, title, _ in words),
            self.gap.join(_placed(one, unit, one.narrow) for one, _, unit in words),
        ]

    def cell(self, column: Column, line: Line) -> Span:
        """One cell with the gap that follows it, and its style."""
        text = column.cell(line)
        if self.narrow:
            text = _placed(column, squeezed(text, column.narrow, column.left), column.narrow)
        else:
            text = _placed(column, text, column.width)
        return text + self.gap, column.style(line)

    def blank(self, column: Column, text: str) -> Span:
        """A text in the place of a cell."""
        return _placed(column, text, column.narrow if self.narrow else column.width) + self.gap, ""

    def note(self, text: str) -> str:
        return NOTES.get(text, text) if self.brief else text

    @property
    def longest_note(self) -> int:
        return max(len(self.note(text)) for text in NOTES)

    @property
    def size(self) -> int:
        """Characters from the first column to the last, the gap behind it included."""
        widths = (one.narrow if self.narrow else one.width for one in self.columns)
        return sum(width + len(self.gap) for width in widths)


def layout_for(columns: Sequence[Column], label: int, room: int | None) -> Layout:
    """The roomiest layout that fits `room` characters behind a label of so many; None is room enough.
    When none does, the smallest."""
    *tried, smallest = (
        Layout(tuple(columns), narrow, brief) for narrow in (False, True) for brief in (False, True)
    )
    fitting = (one for one in tried if room is None or label + one.size + one.longest_note <= room)
    return next(fitting, smallest)


def squeezed(text: str, width: int, left: bool) -> str:
    """The text without blanks, then decimals, that do not fit. Whole digits are never cut."""
    while len(text) > width and text != text.strip():
        text = text[:-1] if text.endswith(" ") else text[1:]
    while len(text) > width and not left and "." in text:
        text = text[:-1].removesuffix(".")
    return text


def _placed(column: Column, text: str, width: int) -> str:
    return text.ljust(width) if column.left else text.rjust(width)
