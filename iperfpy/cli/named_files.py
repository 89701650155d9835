"""The files that a command line names: each one that the program writes is named once.

Two reports in one file destroy each other, and one in a file that is read destroys that. Devices such as
/dev/null are no files: they may be named several times.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from iperfpy.errors import ParameterError
from iperfpy.report.csv_file import STDOUT

WRITTEN = ("csv", "html", "png", "flent", "log_file", "pid_file")
READ = ("public_key", "private_key", "users")
KEY_FILE = "secret_file_"
"""Beginning of the parameter names of the files with secrets (secret_flags.py)."""
INDEX = "the index of runs"

Named = Iterable[tuple[str, str]]
"""Flags, or nouns, each with the path of its file; an empty path is no file."""


def check_files(written: Named, read: Named = ()) -> None:
    """Raise `ParameterError` if one file is to be written twice, or written and read; links count as the file
    that they lead to."""
    found: dict[object, str] = {}
    for flag, path in written:
        if path and (file := _identity(path)) is not None:
            if file in found:
                raise _error(found[file], flag)
            found[file] = flag
    for flag, path in read:
        if path and (file := _identity(path)) in found:
            raise _error(flag, found[file])


def check_options(options: Iterable[click.Parameter], values: Mapping[str, Any]) -> None:
    """Check the files of a command by its options and their values. Raises `ParameterError`."""
    written, read = [], []
    for option in options:
        name = option.name or ""
        named = (option.opts[0], values.get(name) or "")
        if name in WRITTEN and named != ("--csv", STDOUT):
            written.append(named)
        elif name in READ or name.startswith(KEY_FILE):
            read.append(named)
        elif name == "file":
            sends = values["client"] and not (values["reverse"] or values["bidir"])
            (read if sends else written).append(named)
    check_files([*written, *_index(values)], read)


def _index(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The index of the folder in which the result is kept."""
    if values.get("save", not values.get("no_save", True)):
        from iperfpy.store.folder import Folder  # not needed for help
        from iperfpy.store.run_index import INDEX as FILE

        yield INDEX, str(Folder(values["results"] or "").path / FILE)


def _identity(path: str) -> object:
    """A value that two paths of one file share, also behind links. None: it is a device."""
    try:
        facts = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return None if stat.S_ISCHR(facts.st_mode) else (facts.st_dev, facts.st_ino)


def _error(first: str, second: str) -> ParameterError:
    return ParameterError(f"{first} and {second} need a file each")
