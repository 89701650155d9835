"""The places where lines are printed: a terminal, with rich's colours, or any other stream, as plain text.

Both print the same characters. Neither folds a line: a terminal wraps a table that does not fit, and a pipe
gets whole lines, each as soon as it is complete.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

Span = tuple[str, str]
"""A piece of a line and the name of its style, one of `STYLES` or empty."""

STYLES = {
    "header": "bold cyan",
    "rate": "bold",
    "calm": "green",
    "warn": "yellow",
    "alarm": "bold red",
    "muted": "dim",
    "strong": "bold",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


class Screen(Protocol):
    """Prints finished lines."""

    @property
    def width(self) -> int | None:
        """Characters that fit on a line; None: no limit."""

    def line(self, *spans: Span) -> None:
        """Print one line, made of the spans."""


class PlainScreen:
    """Writes plain text, and flushes every line. `exact`: blanks at the end of a line are kept."""

    def __init__(self, stream: TextIO, width: int | None = None, *, exact: bool = False) -> None:
        self._stream = stream
        self._width = width
        self._exact = exact

    @property
    def width(self) -> int | None:
        return self._width

    def line(self, *spans: Span) -> None:
        text = printable("".join(text for text, _ in spans))
        self._stream.write((text if self._exact else text.rstrip()) + "\n")
        self._stream.flush()


class NoScreen:
    """Prints nothing: standard output has another use."""

    width: int | None = None

    def line(self, *spans: Span) -> None:
        """Drop the line."""


class StampedScreen:
    """Starts every line of another screen with the local time, in a format of strftime."""

    def __init__(self, screen: Screen, format: str) -> None:
        self._screen = screen
        self._format = format

    @property
    def width(self) -> int | None:
        width = self._screen.width
        return None if width is None else max(1, width - len(time.strftime(self._format)))

    def line(self, *spans: Span) -> None:
        self._screen.line((time.strftime(self._format), "muted"), *spans)


class RichScreen:
    """Prints the same text through rich, which respects NO_COLOR and dumb terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def width(self) -> int | None:
        return self._console.width

    def line(self, *spans: Span) -> None:
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ignore", end="\n")
        for piece, style in _trimmed(spans):
            text.append(printable(piece), STYLES.get(style, ""))
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def screen_for(stream: TextIO, timestamps: str = "") -> Screen:
    """The screen that suits the stream. Only a terminal needs rich, and its import takes a while.

    `timestamps`: the format of the time before every line; empty: none.
    """
    if timestamps:
        return StampedScreen(screen_for(stream), timestamps)
    if not stream.isatty():
        return PlainScreen(stream)
    from rich.console import Console

    return RichScreen(Console(file=stream, highlight=False, emoji=False, markup=False))


def printable(text: str) -> str:
    """The text with "?" for control characters: titles, names and errors may come from another machine."""
    return _CONTROL.sub("?", text)


def _trimmed(spans: Sequence[Span]) -> list[Span]:
    """The spans without trailing blanks, as the plain screen prints them."""
    kept = list(spans)
    while kept:
        text, style = kept.pop()
        if text.rstrip():
            return [*kept, (text.rstrip(), style)]
    return kept
