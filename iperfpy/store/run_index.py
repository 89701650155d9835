"""The index of stored runs: a file with one JSON object a line, for grep, jq and `iperfpy runs`.

    {"id":"20261129-152657","time":"2026-11-29T15:26:57.350Z","kind":"test","hosts":["10.0.0.2","vpn.example"],
     "transports":["tcp bbr"],"directions":["forward"],"path":"10.0.0.2>192.0.2.7 mss1448",
     "summary":"18.9 Mbit/s","headline":{"bits_per_second":18900000.0},"version":"iperfpy 0.1.0","title":""}

Several processes may append at once: a line is one write under a lock, and a line that a crash left
unfinished is closed first, so that it spoils only itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iperfpy.protocols.operating_system import locked_file
from iperfpy.records import finite
from iperfpy.store.document_part import DocumentPart

KINDS = TEST, DIAGNOSE, COMPARE, LATENCY = "test", "diagnose", "compare", "latency"
"""The commands that keep their results."""
INDEX = "index.jsonl"
LONGEST_LINE = 1 << 16
"""Bytes of a line. A longer one is not an entry of this index."""
MOST_BYTES = 1 << 28
"""Bytes of an index that are read: some 500,000 runs."""
LONGEST_TEXT = 300
"""Characters of a text of the user or of a peer in the index. The document has all of it."""


@dataclass(frozen=True, slots=True)
class About:
    """The facts of a run for the index.

    Parameters
    ----------
    kind : one of `KINDS`
    unix_time : seconds since the epoch at which the run began
    hosts : this end, then the server as the user named it (at a server: the client)
    transports : with the congestion control behind a name that does not say it, such as "tcp bbr"
    directions : values of `Direction`
    path : see `path_signature`
    summary : the result in a few words, for a table
    headline : the most important figures by name, the unit at the end of a name
    version : of the program that measured
    title : the user's, or empty
    error : the sentence that ended the run early, or empty
    """

    kind: str
    unix_time: float
    hosts: tuple[str, ...]
    transports: tuple[str, ...]
    directions: tuple[str, ...]
    path: str = ""
    summary: str = ""
    headline: Mapping[str, float | str | None] = field(default_factory=dict)
    version: str = ""
    title: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A line of the index: the name of the run, and the facts."""

    id: str
    about: About

    def line(self) -> bytes:
        """The line as it is stored."""
        return json.dumps(record_of(self), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def record_of(entry: IndexEntry) -> dict[str, Any]:
    """The object of a line: JSON values."""
    about = entry.about
    record: dict[str, Any] = {
        "id": entry.id,
        "time": time_text(about.unix_time),
        "kind": about.kind,
        "hosts": list(about.hosts),
        "transports": list(about.transports),
        "directions": list(about.directions),
        "path": about.path,
        "summary": about.summary,
        "headline": dict(about.headline),
        "version": about.version,
        "title": about.title[:LONGEST_TEXT],
    }
    if about.error:
        record["error"] = about.error[:LONGEST_TEXT]
    made: dict[str, Any] = finite(record)
    return made


def path_signature(local: str, remote: str, mss_bytes: int | None = None) -> str:
    """Text that is equal for runs over one path, as far as the ends can tell: their addresses, and the
    segment size of TCP. `local`, `remote`: addresses; an empty one is not known."""
    size = f" mss{mss_bytes}" if mss_bytes else ""
    return f"{local}>{remote}{size}" if local or remote else ""


def time_text(unix_time: float) -> str:
    """ISO 8601 with milliseconds, UTC: `2026-11-29T15:26:57.350Z`."""
    moment = datetime.fromtimestamp(unix_time, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def append(path: Path, entry: IndexEntry) -> None:
    """Add a line to the index. Raises OSError if it is lost; no part of it stays then."""
    data = entry.line()
    # Reading is for the end of the last line; appending is atomic with regard to other processes.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        with locked_file(descriptor):
            size = os.fstat(descriptor).st_size
            if size:
                os.lseek(descriptor, size - 1, os.SEEK_SET)
                data = data if os.read(descriptor, 1) == b"\n" else b"\n" + data
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            except OSError:
                os.ftruncate(descriptor, min(size, os.fstat(descriptor).st_size))  # never longer
                raise
    finally:
        os.close(descriptor)


def read(path: Path) -> tuple[list[IndexEntry], list[int]]:
    """The entries in the order of the file, and the numbers of the lines (from 1) that are not entries.

    A file that does not exist has no entries. Raises OSError if it cannot be read.
    """
    entries: list[IndexEntry] = []
    bad: list[int] = []
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        for number, line in enumerate(file.read(MOST_BYTES).split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                # A longer line is cut, and is no JSON then.
                entries.append(entry_of(json.loads(line[:LONGEST_LINE])))
            # RecursionError: a foreign line may be nested too deeply for the parser.
            except (ValueError, RecursionError):
                bad.append(number)
    return entries, bad


def entry_of(stored: Any) -> IndexEntry:
    """The entry of one line. Raises ValueError for a line of another kind."""
    part = DocumentPart(stored)
    headline = part.part("headline")
    name = part.text("id")
    if not name or name != os.path.basename(name) or name.startswith("."):
        raise ValueError("the id is not the name of a file")
    about = About(
        kind=part.text("kind"),
        unix_time=datetime.fromisoformat(part.text("time")).timestamp(),
        hosts=part.texts("hosts"),
        transports=part.texts("transports"),
        directions=part.texts("directions"),
        path=part.text("path", ""),
        summary=part.text("summary", ""),
        headline={key: headline.figure(key) for key in headline.values},
        version=part.text("version", ""),
        title=part.text("title", ""),
        error=part.text("error", ""),
    )
    return IndexEntry(name, about)
