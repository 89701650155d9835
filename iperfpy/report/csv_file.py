"""Where the rows of a CSV go: a file to which tests add rows, or standard output.

    CsvFile      rows are appended below an equal header; several tests and processes may share the file
    CsvStream    rows of this process, below a header of its own

A row is one write, so a process that is killed leaves whole rows. Neither class knows of threads: the rows of
one object are written by one thread at a time.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from iperfpy.errors import StartError, system_reason
from iperfpy.protocols.operating_system import is_removed, locked_file

TAIL_BYTES = 1 << 16
"""Length of the end of a file that is searched for an unfinished line; no row is longer."""


class CsvError(StartError):
    """The CSV cannot be opened."""


class RowWriter(Protocol):
    """Takes the rows of tests."""

    @property
    def name(self) -> str:
        """The file in sentences, such as `x.csv`."""

    def row(self, cells: Sequence[str]) -> None:
        """Write one row, and the header before it if there is none yet. Raises OSError if it is lost."""


def line(cells: Sequence[str]) -> bytes:
    """One line of a CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


class CsvStream:
    """Writes rows to a text stream."""

    name = "standard output"

    def __init__(self, stream: TextIO, header: Sequence[str]) -> None:
        self._stream = stream
        self._header: Sequence[str] | None = header

    def row(self, cells: Sequence[str]) -> None:
        rows = [cells] if self._header is None else [self._header, cells]
        self._header = None
        self._stream.write(b"".join(map(line, rows)).decode())
        self._stream.flush()


class CsvFile:
    """A file of rows below one header. Is a `RowWriter`.

    Opening shows that rows can be added, and changes nothing: an empty or new file gets its header with the
    first row, and a file that is to be replaced keeps its content until then.
    """

    def __init__(
        self, path: Path, header: Sequence[str], *, replace: bool = False, new: bool = False
    ) -> None:
        """Open the file.

        Parameters
        ----------
        replace : replace the content with the first row
        new : the file must not exist

        Raises
        ------
        CsvError
            The file has another header, and is not to be replaced.
        OSError
            The file cannot be opened; FileExistsError if it has to be `new`.
        """
        self.path = path
        self._header = line(header)
        self._replace = replace
        self._created = not path.exists()
        self._headed = False
        self._descriptor = self._open(new=new)

    @property
    def name(self) -> str:
        return str(self.path)

    def row(self, cells: Sequence[str]) -> None:
        """Write one row. Raises OSError if it is lost; a part of a row never stays in a regular file."""
        if self._descriptor >= 0 and is_removed(self._descriptor):
            self._follow()  # somebody removed the file
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # Two processes would both write the header, and one would complete the unfinished row that another
        # removes again.
        with locked_file(self._descriptor):
            status = os.fstat(self._descriptor)
            regular, size = stat.S_ISREG(status.st_mode), status.st_size
            if self._replace and regular:
                os.ftruncate(self._descriptor, 0)
                size = 0
            # A rotation that truncates the file takes its header, too.
            headed = size > 0 if regular else self._headed
            before = self._header
            if headed:
                before = _completion(self._descriptor, size) if regular else b""
            data = before + line(cells)
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                if regular:
                    # A rotation may have truncated it meanwhile; to lengthen it would fill it with zeros.
                    os.ftruncate(self._descriptor, min(size, os.fstat(self._descriptor).st_size))
                raise
            self._replace, self._headed = False, True

    def _follow(self) -> None:
        """Go on in a new file of the same name. Raises OSError."""
        try:
            self.reopen()
        except StartError as error:
            raise OSError(str(error)) from error
        except OSError as error:  # without the name of the file, which sentences about a row have anyway
            raise OSError(error.errno, error.strerror) from error

    def reopen(self) -> None:
        """Open the path again, after a rotation moved the file away. Raises what the constructor raises, and
        goes on with the old file then."""
        self._replace = False
        replacement = self._open()
        # The descriptor keeps its number: a row that another thread is writing goes to one file or the other.
        os.dup2(replacement, self._descriptor, inheritable=False)
        os.close(replacement)
        self._headed = False

    def close(self) -> None:
        """Close the file, and remove it if this object made it and it has no row. Idempotent."""
        if self._descriptor < 0:
            return
        empty = os.fstat(self._descriptor).st_size == 0
        os.close(self._descriptor)
        self._descriptor = -1
        if self._created and empty and self.path.is_file():
            self.path.unlink(missing_ok=True)

    def _open(self, *, new: bool = False) -> int:
        """A descriptor of the path, to which rows of this header can be added."""
        # A pipe or a device is not read: a pipe that is open in both directions would never break.
        regular = self.path.is_file() or not self.path.exists()
        flags = os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | (os.O_EXCL if new else 0)
        descriptor = os.open(self.path, flags | (os.O_RDWR if regular else os.O_WRONLY), 0o666)
        try:
            if regular and not self._replace:
                self._check_header(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check_header(self, descriptor: int) -> None:
        """Raises `StartError` unless the file is empty or has this header."""
        with locked_file(descriptor), open(descriptor, "rb", closefd=False) as file:
            first = file.readline(len(self._header))
        if first and first != self._header:
            raise CsvError(
                f"cannot add rows to {self.path}, whose first line is not the header of this version's "
                "rows: name another file, or replace it with --csv-overwrite"
            )


def _completion(descriptor: int, size: int) -> bytes:
    """The bytes that complete a last line which another program, or a crash, left unfinished."""
    os.lseek(descriptor, max(0, size - 1), os.SEEK_SET)  # rows are appended, wherever this points
    if os.read(descriptor, 1) == b"\n":
        return b""
    start = max(0, size - TAIL_BYTES)
    os.lseek(descriptor, start, os.SEEK_SET)
    last = os.read(descriptor, size - start).rpartition(b"\n")[2]
    # No cell has a line break, so an odd number of quotation marks leaves a cell open.
    return (b'"\n' if last.count(b'"') % 2 else b"\n") if last else b""


def generated_path(name: str, unix_time: float, folder: Path) -> Iterator[Path]:
    """Yield names such as `results/20261122-171500-kcp-bbr-reverse.csv` (local time), then NAME-2.csv, ..."""
    when = time.strftime("%Y%m%d-%H%M%S", time.localtime(unix_time))
    yield folder / f"{when}-{name}.csv"
    for count in range(2, 1000):
        yield folder / f"{when}-{name}-{count}.csv"


def open_generated(name: str, header: Sequence[str], unix_time: float, folder: Path) -> CsvFile:
    """Open a new file in the folder, which is made if there is none. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in generated_path(name, unix_time, folder):
        try:
            return CsvFile(path, header, new=True)
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


STDOUT = "-"
"""The name of the CSV that stands for standard output."""


@contextlib.contextmanager
def opened_csv(
    path: str | None, header: Sequence[str], *, name: str, folder: Path, replace: bool = False
) -> Iterator[CsvFile | CsvStream | None]:
    """The open CSV of a command, None if the user wants none.

    Parameters
    ----------
    path : the user's choice; empty: a new file in `folder`, with `name` in its own; None: no CSV

    Raises
    ------
    CsvError
        It cannot be opened.
    """
    if path is None or path == STDOUT:
        yield None if path is None else CsvStream(sys.stdout, header)
        return
    try:
        if path:
            file = CsvFile(Path(path), header, replace=replace)
        else:
            file = open_generated(name, header, time.time(), folder)
    except OSError as error:
        raise CsvError(f"cannot write the CSV: {system_reason(error)}") from error
    try:
        yield file
    finally:
        file.close()
