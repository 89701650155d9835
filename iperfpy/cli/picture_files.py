"""The pictures of a measurement: their files are opened before it begins, and written when it is over.

    PictureOptions --opened--> files and libraries checked    `StartError` before anything is measured
    Page           --write_page--> HTML, PNG
    Run            --write_run---> HTML, PNG, a file for Flent, a plot on standard output

A file that existed keeps its content until the new one is ready. One that did not is made when its content is
ready: a command that is killed leaves no empty file.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, TextIO

from iperfpy.errors import StartError, system_reason
from iperfpy.options import PictureOptions
from iperfpy.protocols.operating_system import is_regular, is_removed

if TYPE_CHECKING:
    from iperfpy.report.pictures.page_model import Page
    from iperfpy.store.stored_run import Run

PLAIN_WIDTH = 80
"""Columns of a plot where standard output is no terminal."""


class PictureFile:
    """One file, which can be written from the beginning.

    Parameters
    ----------
    path : of the file
    kind : a phrase for sentences, such as "the page"
    """

    def __init__(self, path: str, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        """Open it and leave its content, or show that it can be made. Raises `StartError`."""
        is_new = not os.path.lexists(self._path)
        try:
            self._append()
        except OSError as error:
            raise StartError(f"cannot write {self._kind}: {system_reason(error)}") from error
        if is_new:
            self.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def write(self, content: bytes) -> None:
        """Replace the content, or write a new file if somebody has removed this one. Raises OSError."""
        if self._file is not None and is_removed(self._file.fileno()):
            self.close()
        file = self._file or self._append()
        if is_regular(file.fileno()):
            file.truncate(0)
        file.write(content)
        file.flush()

    def _append(self) -> IO[bytes]:
        """Open the file, and keep its content. Raises OSError."""
        self._file = file = open(self._path, "ab")  # noqa: SIM115 - closed by `close`
        return file

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def failure(self, error: OSError) -> str:
        """The sentence about an error of `write`."""
        name = "" if error.filename else f" {self._path}"
        return f"cannot write {self._kind}{name}: {system_reason(error)}"


class PictureFiles:
    """The pictures that one command makes.

    Parameters
    ----------
    options : the user's choice
    warn : called with a sentence about a picture that could not be written

    Attributes
    ----------
    failed : True once a picture could not be written
    """

    def __init__(self, options: PictureOptions, warn: Callable[[str], None]) -> None:
        self._options = options
        self._warn = warn
        self.failed = False
        self._page = PictureFile(options.html, "the page (--html)") if options.html else None
        self._image = PictureFile(options.png, "the image (--png)") if options.png else None
        self._flent = PictureFile(options.flent, "the file for Flent (--flent)") if options.flent else None

    @property
    def wanted(self) -> bool:
        """True if the user asked for any picture."""
        return self._options != PictureOptions()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Have the files open. Raises `StartError` if one cannot be written, or if a library is missing."""
        files = [file for file in (self._page, self._image, self._flent) if file is not None]
        try:
            for file in files:
                file.open()
            self._check_libraries()
            yield
        finally:
            for file in files:
                file.close()

    def write_page(self, page: Page) -> None:
        """Write the page and the image."""
        from iperfpy.report.pictures.html_page import html_of

        self._write(self._page, lambda: html_of(page).encode())
        self._write(self._image, lambda: _png(page))

    def write_run(self, run: Run, screen: TextIO | None = None) -> None:
        """Write every picture of a test; nothing for one that failed before it started. `screen`: takes the
        plot. Raises OSError if that cannot be written."""
        if not self.wanted or run.started is None:
            return
        from iperfpy.report.pictures.run_page import page_of

        if self._page is not None or self._image is not None:
            self.write_page(page_of(run))
        self._write(self._flent, lambda: _flent(run))
        if self._options.plot:
            _plot(run, screen or sys.stdout)

    def _check_libraries(self) -> None:
        """Raise `StartError` if the library of a picture is missing. Without a picture, none is imported."""
        if self._page is not None:
            from iperfpy.report.pictures import html_page

            html_page.check_library()
        if self._image is not None:
            from iperfpy.report.pictures import png_page

            png_page.check_library()
        if self._options.plot:
            from iperfpy.report.pictures import terminal_plot

            terminal_plot.check_library()

    def _write(self, file: PictureFile | None, content: Callable[[], bytes]) -> None:
        if file is None:
            return
        made = content()
        try:
            file.write(made)
        except OSError as error:
            self.failed = True
            self._warn(file.failure(error))


def _png(page: Page) -> bytes:
    from iperfpy.report.pictures.png_page import png_of

    return png_of(page)


def _flent(run: Run) -> bytes:
    from iperfpy.report.pictures.flent_file import flent_of

    return flent_of(run)


def _plot(run: Run, stream: TextIO) -> None:
    """Print the plot of a test. Raises OSError."""
    from iperfpy.report.pictures.run_timeline import timeline_of
    from iperfpy.report.pictures.terminal_plot import plot_lines

    timeline = timeline_of(run)
    if timeline is None:
        return
    on_terminal = stream.isatty()
    dumb = on_terminal and os.environ.get("TERM", "") in ("dumb", "unknown", "")
    colour = on_terminal and not dumb and not os.environ.get("NO_COLOR")
    plain = dumb or not _has_unicode(stream)
    for line in plot_lines(timeline, _width(stream), colour=colour, ascii=plain):
        stream.write(f"{line}\n")
    stream.flush()


def _has_unicode(stream: TextIO) -> bool:
    try:
        "⠿┤".encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _width(stream: TextIO) -> int:
    """Columns of the terminal, or of the environment; else `PLAIN_WIDTH`."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or PLAIN_WIDTH
    except (OSError, ValueError):
        return PLAIN_WIDTH
