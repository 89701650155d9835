"""The folder of stored runs: a JSON document a run, and an index with a line a run.

    results/20261129-152657.json     the document that -J prints, with the key `stored`
    results/index.jsonl              a line per run, see `run_index`

    document, About --save--> IndexEntry     entries() --> Listing          find("last") --> Path

The name of a run is the time at which it began, UTC, so that names sort by time; a second run of the same
second gets "-2". A document appears under its name when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iperfpy.errors import DocumentError, system_reason
from iperfpy.options import RESULTS, RESULTS_VARIABLE
from iperfpy.protocols.units import counted
from iperfpy.protocols.whole_file import read_whole
from iperfpy.records import finite
from iperfpy.store.run_index import INDEX, About, IndexEntry, append, read

STORED = "stored"
"""Key of a document for the facts that only a stored one has: `id` and `kind`."""
MOST_BYTES = 1 << 28
"""Bytes of the longest document that is read."""
FEWEST_NAMED = 5
"""Names that a sentence lists at most."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs of a folder, the oldest first, and a sentence for each fault of the index."""

    entries: tuple[IndexEntry, ...]
    warnings: tuple[str, ...] = ()


class Folder:
    """The stored runs of one folder, which need not exist.

    Parameters
    ----------
    path : of the folder; empty: the one that the environment names, or `results` in the current folder
    """

    def __init__(self, path: str | os.PathLike[str] = "") -> None:
        self.path = Path(path or os.environ.get(RESULTS_VARIABLE, "") or RESULTS)

    def save(self, document: Json, about: About) -> IndexEntry:
        """Write a document and its line of the index; the folder is made if there is none.

        Parameters
        ----------
        document : JSON values; NaN and infinities become null

        Returns
        -------
        IndexEntry
            `document_path` gives its file.

        Raises
        ------
        OSError
            The document cannot be written, and no part of it stays; or its line cannot be added to the index,
            and the document can be found by its name.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        entry = self._write(document, about)
        append(self.path / INDEX, entry)
        return entry

    def check(self) -> None:
        """Show that a run can be saved now, and leave the folder as it is. Raises OSError."""
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self._temporary() as (descriptor, _):
                os.write(descriptor, b"\n")
                os.fsync(descriptor)  # some file systems find only here that the disk is full
            with contextlib.suppress(FileNotFoundError):
                os.close(os.open(self.path / INDEX, os.O_RDWR | os.O_APPEND))
        finally:
            for folder in made:
                with contextlib.suppress(OSError):  # it has files of another program by now
                    folder.rmdir()

    def document_path(self, entry: IndexEntry) -> Path:
        """The file of a run."""
        return self.path / f"{entry.id}.json"

    def entries(self) -> Listing:
        """The runs with a document. Raises `DocumentError` if the index cannot be read."""
        index = self.path / INDEX
        try:
            found, bad = read(index)
        except OSError as error:
            raise DocumentError(f"cannot read the index of the runs: {system_reason(error)}") from error
        warnings = []
        if bad:
            lines = f"line {bad[0]}" if len(bad) == 1 else f"lines {_some(bad)}"
            warnings.append(f"{index}: {lines} cannot be read as a run, and is left out")
        # One call for the folder instead of one for each run.
        with contextlib.suppress(OSError):
            names = set(os.listdir(self.path))
            missing = [entry.id for entry in found if f"{entry.id}.json" not in names]
            if missing:
                warnings.append(f"{index} names runs without a document: {_some(missing)}")
            found = [entry for entry in found if f"{entry.id}.json" in names]
        return Listing(tuple(sorted(found, key=_order)), tuple(warnings))

    def find(self, name: str) -> Path:
        """The document that a word of the user means.

        Parameters
        ----------
        name : path of a file; `last`, or `last~N` for the N-th run before it; the name of a run, or a
            beginning of it that no other run has

        Raises
        ------
        DocumentError
            There is none, or more than one.
        """
        # A path comes first: a run has no folder in its name.
        if os.path.isfile(name) or os.path.dirname(name):
            if not os.path.exists(name):
                raise DocumentError(f"there is no file {name}")
            return Path(name)
        if back := re.fullmatch(r"last(?:~(\d{1,9}))?", name, re.ASCII):
            return self._from_the_end(int(back[1] or 0))
        names = self._names()
        fitting = [one for one in names if one.startswith(name)] if name else []
        if name in names:
            fitting = [name]
        if not fitting:
            raise DocumentError(f"no run {name!r} in {self.path}, and no file: `iperfpy runs` lists the runs")
        if len(fitting) > 1:
            raise DocumentError(f"{name!r} is the beginning of {len(fitting)} runs: {_some(fitting)}")
        return self.path / f"{fitting[0]}.json"

    def before(self, path: Path) -> Path:
        """The document of the latest earlier run of the same kind, server, transports and directions. Raises
        `DocumentError` if there is none, or if the index does not have this run."""
        entries = self.entries().entries
        place = next((at for at, one in enumerate(entries) if self.document_path(one) == path), None)
        if place is None:
            raise DocumentError(f"{path} is not in the index of runs: name the run to compare it with")
        wanted = _likeness(entries[place])
        earlier = [one for one in entries[:place] if _likeness(one) == wanted]
        if not earlier:
            raise DocumentError(f"there is no earlier run like {entries[place].id} in {self.path}")
        return self.document_path(earlier[-1])

    # -- parts

    def _from_the_end(self, back: int) -> Path:
        entries = self.entries().entries
        if back >= len(entries):
            count = "no runs" if not entries else f"{counted(len(entries), 'run')} only"
            raise DocumentError(f"there are {count} in {self.path}: save one with --save")
        return self.document_path(entries[-1 - back])

    def _names(self) -> list[str]:
        """The names of all documents, listed in the index or not."""
        with contextlib.suppress(OSError):
            return sorted(one[:-5] for one in os.listdir(self.path) if _NAMED.fullmatch(one))
        return []

    def _write(self, document: Json, about: About) -> IndexEntry:
        """Write the document under a new name."""
        with self._temporary() as (descriptor, temporary):
            for name in _free_names(self.path, about.unix_time):
                stored = {"id": name, "kind": about.kind}
                text = json.dumps(finite({STORED: stored, **document}), indent="\t", allow_nan=False)
                with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                    file.seek(0)
                    file.truncate()
                    file.write(text + "\n")
                os.fsync(descriptor)
                if _named(temporary, self.path / f"{name}.json"):
                    return IndexEntry(name, about)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[int, Path]]:
        """A descriptor and the path of a file that is removed at the end. Raises OSError."""
        # In the same folder: only there does it get another name in one step.
        path = self.path / f".run-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(path)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of a file. Raises `DocumentError`, which names the file."""
    try:
        content = read_whole(path, MOST_BYTES, descriptors=True)
    except OSError as error:
        raise DocumentError(f"cannot read the run: {system_reason(error)}") from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise DocumentError(f"{path} is not a run: it is not JSON ({reason})") from error
    if not isinstance(document, dict):
        raise DocumentError(f"{path} is not a run: it is not a JSON object")
    return document


_NAMED = re.compile(r"\d{8}-\d{6}(-\d+)?\.json")


def _likeness(entry: IndexEntry) -> tuple[object, ...]:
    """The facts that comparable runs have in common. This end's address may have changed."""
    about = entry.about
    return about.kind, about.hosts[-1:], about.transports, about.directions


def _order(entry: IndexEntry) -> tuple[str, int]:
    """Sorts by name, and "-10" after "-9"."""
    second, number = entry.id[:15], entry.id[16:]
    return second, int(number) if number.isdigit() else 0


def _free_names(folder: Path, unix_time: float) -> Iterator[str]:
    """Names of this second that no document has yet."""
    second = time.strftime("%Y%m%d-%H%M%S", time.gmtime(unix_time))
    numbered = itertools.chain([second], (f"{second}-{count}" for count in range(2, 10_000)))
    return (name for name in numbered if not (folder / f"{name}.json").exists())


def _named(temporary: Path, path: Path) -> bool:
    """Give a whole file its name; False if another process has just taken it. Raises OSError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links: the name may be taken between these two calls.
        if path.exists():
            return False
        os.rename(temporary, path)
    return True


def _some(names: Sequence[Any]) -> str:
    """The first names of a list, and the number of the rest."""
    rest = len(names) - FEWEST_NAMED
    return ", ".join(map(str, names[:FEWEST_NAMED])) + (f" and {rest} more" if rest > 0 else "")
