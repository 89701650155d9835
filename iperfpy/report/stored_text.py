"""The text of a stored run that is not a test: lines of spans, folded anew for the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from iperfpy.errors import DocumentError
from iperfpy.report.screen import STYLES, Screen, Span

NARROWEST = 40
"""Characters for the text of a column, however narrow the terminal is."""
DEEPEST_INDENT = 60
"""Largest indent of a folded text; a line with a last span farther right is printed as it is."""


def show_text(stored: Any, screen: Screen) -> None:
    """Print the lines of `stored.text`. Raises `DocumentError` for a value of another kind."""
    for line in read_lines(stored):
        for folded in _folded(line, screen.width):
            screen.line(*folded)


def read_lines(stored: Any) -> list[list[Span]]:
    """The lines, as spans. Raises `DocumentError`."""
    if not isinstance(stored, list) or not all(isinstance(line, list) for line in stored):
        raise DocumentError("the text of the run cannot be read: it is not a list of lines")
    return [[_span(one) for one in line] for line in stored]


def _span(stored: Any) -> Span:
    if not isinstance(stored, list) or len(stored) != 2 or not all(isinstance(one, str) for one in stored):
        raise DocumentError("the text of the run cannot be read: a span is not a text and a style")
    text, style = stored
    return text, style if style in STYLES else ""


def _folded(line: list[Span], width: int | None) -> Iterator[list[Span]]:
    """The line; where it does not fit, the words of its last span go on below its beginning."""
    size = sum(len(text) for text, _ in line)
    indent = size - len(line[-1][0]) if line else 0
    if width is None or size <= width or indent > DEEPEST_INDENT:
        yield line
        return
    *head, (text, style) = line
    # Names such as kcp-bbr stay whole.
    first, *rest = textwrap.wrap(
        text, max(NARROWEST, width - indent), break_on_hyphens=False, break_long_words=False
    )
    yield [*head, (first, style)]
    yield from ([(" " * indent, ""), (more, style)] for more in rest)
