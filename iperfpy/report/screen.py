"""The places where lines are printed: a terminal, with rich's colours, or any other stream, as plain text.

Both print the same characters. Neither folds a line: `folded` breaks sentences for a terminal, at blanks, and
a pipe gets whole lines, each as soon as it is complete.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
import time
import unicodedata
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

HANGING = 4
"""Blanks before the second and later lines of a folded sentence."""
NARROWEST = 20
"""Characters of a terminal below which no sentence is folded: it would become a column of words."""


class Screen(Protocol):
    """Prints finished lines."""

    @property
    def width(self) -> int | None:
        """Characters that fit on a line; None: no limit."""

    @property
    def height(self) -> int | None:
        """Lines that are visible at once; None: all."""

    def line(self, *spans: Span) -> None:
        """Print one line, made of the spans."""


class PlainScreen:
    """Writes plain text, and flushes every line. `exact`: blanks at the end of a line are kept."""

    height: int | None = None

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
    height: int | None = None

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

    @property
    def height(self) -> int | None:
        return self._screen.height

    def line(self, *spans: Span) -> None:
        self._screen.line((time.strftime(self._format), "muted"), *spans)


class RichScreen:
    """Prints the same text through rich, which respects NO_COLOR and dumb terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def width(self) -> int | None:
        return self._console.width

    @property
    def height(self) -> int | None:
        return self._console.height

    def line(self, *spans: Span) -> None:
        self._print(_trimmed(spans), "\n")

    def rendered(self, *spans: Span) -> str:
        """The spans with the escape sequences of their styles, as `line` prints them, without the end."""
        with self._console.capture() as capture:
            self._print(spans, "")
        return capture.get()

    def _print(self, spans: Sequence[Span], end: str) -> None:
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ignore")
        for piece, style in spans:
            text.append(printable(piece), STYLES.get(style, ""))
        self._console.print(text, soft_wrap=True, highlight=False, markup=False, end=end)


def screen_for(stream: TextIO, timestamps: str = "") -> Screen:
    """The screen that suits the stream. Only a terminal needs rich, and its import takes a while.

    `timestamps`: the format of the time before every line; empty: none.
    """
    if timestamps:
        return StampedScreen(screen_for(stream), timestamps)
    return rich_screen(stream) if stream.isatty() else PlainScreen(stream)


def rich_screen(terminal: TextIO) -> RichScreen:
    """The screen of a terminal."""
    from rich.console import Console

    return RichScreen(Console(file=terminal, highlight=False, emoji=False, markup=False))


def cells_of(text: str) -> int:
    """Cells of a terminal that the text takes: 2 for a wide character (UAX 11), 0 for a combining one."""
    wide = sum(1 for one in text if unicodedata.east_asian_width(one) in "WF")
    return len(text) + wide - sum(1 for one in text if unicodedata.combining(one))


def folded(text: str, width: int | None) -> list[str]:
    """The text in lines of at most `width` characters, broken at blanks; None: one line. A longer word keeps
    its line."""
    if width is None or width < NARROWEST or len(text) <= width:
        return [text]
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * HANGING,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def terminal_width(stream: TextIO) -> int | None:
    """Characters that fit on a line of the stream, None if it is no terminal or does not tell."""
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    return None


def write_line(stream: TextIO, text: str) -> None:
    """Write whole lines in one call. `print` writes the end of a line in a second one, so that the line of
    another thread may come between. Raises OSError."""
    stream.write(f"{text}\n")
    stream.flush()


def printable(text: str) -> str:
    """The text with "?" for characters that are not printed, such as controls and those that change the
    direction of a text: titles, names and errors may come from another machine."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or unicodedata.category(each) == "Zs" else "?" for each in text)


def _trimmed(spans: Sequence[Span]) -> list[Span]:
    """The spans without trailing blanks, as the plain screen prints them."""
    kept = list(spans)
    while kept:
        text, style = kept.pop()
        if text.rstrip():
            return [*kept, (text.rstrip(), style)]
    return kept
