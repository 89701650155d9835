"""One table for every study: in the terminal, as aligned plain text, and as Markdown.

Cells are text. They may carry rich's markup (`[dim]...[/]`) and line breaks; Markdown drops the one and
writes the other as `<br>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

Cells = Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows.

    `left` : number of columns at the left that are text; the columns behind them are aligned to the right.
    `sections` : start a new section whenever the first cell of a row is not empty.
    """

    headings: Cells
    rows: Sequence[Cells]
    title: str = ""
    left: int = 1
    sections: bool = False

    def show(self, console: Console | None = None) -> None:
        """Print the table to the terminal, at least 136 columns wide."""
        shown = RichTable(title=self.title, box=box.SIMPLE_HEAD, title_justify="left")
        last = len(self.headings) - 1
        for at, name in enumerate(self.headings):
            # The verdict stands in the last column, and reads better beside the figures.
            shown.add_column(name, justify="left" if at < self.left or at == last else "right")
        for row in self.rows:
            if self.sections and row[0]:
                shown.add_section()
            shown.add_row(*row)
        (console or Console(width=max(136, Console().width))).print(shown)

    def text(self) -> str:
        """Align the columns with spaces; one line per row."""
        table = [self.headings, *self.rows]
        widths = [max(len(row[at]) for row in table) for at in range(len(self.headings))]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table
        )
        return "".join(line.rstrip() + "\n" for line in lines)

    def markdown(self) -> str:
        """Write the table for a page on a code host."""
        rule = ["---"] * len(self.headings)
        lines = [self.headings, rule, *([_markdown(cell) for cell in row] for row in self.rows)]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _markdown(cell: str) -> str:
    return Text.from_markup(cell).plain.replace("\n", "<br>").replace("|", "\\|")
