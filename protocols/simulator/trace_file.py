"""Reads and writes traces of mahimahi: text, one time per line, milliseconds since the beginning.

The text may be compressed by gzip or xz, which its first bytes tell. Every size is bounded.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from typing import BinaryIO, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.rate_trace import RateTrace

MOST_STAMPS = 20_000_000
MOST_BYTES = 256 * 2**20
"""Bytes of text, without compression."""
LATEST_MS = 10**9
"""Latest time of an opportunity: eleven days."""
_CHUNK = 2**20
_LINES = re.compile(rb"(?:[0-9]{1,12}\r?\n)+")
_LINE = re.compile(rb"[0-9]{1,12}\r?")
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


class TraceError(ValueError):
    """A file is no trace. The message names the file, and the line if one is wrong."""


def read_trace(file: str) -> RateTrace:
    """Read a trace; its name is that of the file. Raises TraceError.

    A file that has not changed is not read again: both ways of a path, and its events, share the times.
    """
    with errors_of(file):
        found = os.stat(file)
        return RateTrace(file, _checked(file, (found.st_ino, found.st_mtime_ns, found.st_size)))


@lru_cache(maxsize=4)
def _checked(file: str, version: tuple[int, int, int]) -> NDArray[np.int32]:
    """Times of a file; `version` stands for its contents."""
    stamps = _stamps(file)
    if not len(stamps):
        raise TraceError(f"{file}: the trace is empty; it needs one time in milliseconds per line")
    if not stamps[-1]:
        raise TraceError(
            f"{file}, line {len(stamps)}: the last time must be above 0, because the trace repeats"
        )
    stamps.setflags(write=False)
    return stamps


def write_trace(stream: TextIO, stamps_ms: NDArray[np.int32]) -> None:
    """Write the times of opportunities as a trace."""
    for first in range(0, len(stamps_ms), _CHUNK):
        stream.writelines(f"{stamp}\n" for stamp in stamps_ms[first : first + _CHUNK].tolist())


@contextmanager
def errors_of(file: str) -> Iterator[None]:
    """Turn errors of the system, and of a compressed file, into a TraceError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise TraceError(f"{file}: the compressed file is damaged: {error}") from None
    except OSError as error:
        # gzip reports a damaged file as an OSError without a number.
        raise TraceError(f"{file}: {error.strerror or error}") from None


def _stamps(file: str) -> NDArray[np.int32]:
    parts: list[NDArray[np.int32]] = []
    lines, latest = 0, 0
    with opened(file) as stream:
        for text in whole_lines(file, stream):
            if not _LINES.fullmatch(text):
                raise TraceError(_wrong_line(file, text, lines))
            part = np.fromstring(text, np.int64, sep="\n")
            _check_order(file, part, lines, latest)
            lines, latest = lines + len(part), int(part[-1])
            if lines > MOST_STAMPS:
                raise TraceError(f"{file}: a trace has at most {MOST_STAMPS} lines")
            parts.append(part.astype(np.int32))
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a regular file; anything else may have no end, or never a beginning."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise TraceError(f"{file}: it is not a regular file")
    with open(file, "rb") as plain, uncompressed(plain) as stream:
        yield stream


def uncompressed(stream: BufferedReader) -> BinaryIO:
    """Return the contents of a file or of standard input, which may be compressed."""
    magic = stream.peek(len(_XZ))
    if magic.startswith(_GZIP):
        return cast(BinaryIO, gzip.open(stream))
    return cast(BinaryIO, lzma.open(stream)) if magic.startswith(_XZ) else stream


def whole_lines(file: str, stream: BinaryIO) -> Iterator[bytes]:
    """Yield the text in pieces of whole lines, each ended by a line feed."""
    rest, total = b"", 0
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
        if total > MOST_BYTES:
            raise TraceError(f"{file}: a trace has at most {MOST_BYTES // 2**20} MiB of text")
        text, newline, rest_behind = (rest + chunk).rpartition(b"\n")
        if not newline and len(rest_behind) >= _CHUNK:
            # No line is so long: the file is something else.
            text, newline, rest_behind = rest_behind, b"\n", b""
        rest = rest_behind
        if newline:
            yield text + newline
    if rest:
        yield rest + b"\n"


def _wrong_line(file: str, text: bytes, lines: int) -> str:
    """Describe the first line that is no number; `lines` precede the text."""
    for number, line in enumerate(text.split(b"\n"), lines + 1):
        if not _LINE.fullmatch(line):
            shown = ascii(line[:20].decode("latin-1")) + ("..." if len(line) > 20 else "")
            found = "is empty" if not line.strip() else f"is {shown}"
            return f"{file}, line {number}: a line is a time in whole milliseconds, and this one {found}"
    raise AssertionError("every line is a number")


def _check_order(file: str, part: NDArray[np.int64], lines: int, latest: int) -> None:
    falls = np.flatnonzero(np.diff(part, prepend=latest) < 0)
    if len(falls):
        at = int(falls[0])
        before = int(part[at - 1]) if at else latest
        raise TraceError(
            f"{file}, line {lines + at + 1}: the times must not fall, and {int(part[at])} follows {before}"
        )
    if part[-1] > LATEST_MS:
        at = int(part.searchsorted(LATEST_MS, "right"))
        raise TraceError(
            f"{file}, line {lines + at + 1}: a time is at most {LATEST_MS} ms, not {int(part[at])}"
        )
