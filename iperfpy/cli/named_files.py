"""The files that a command line names: each one that the program writes is named once, as is standard output.

Two reports in one file destroy each other, and one in a file that is read destroys that. Devices such as
/dev/null are no files: they may be named several times.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from iperfpy.errors import ParameterError
from iperfpy.report.csv_file import STDOUT

WRITTEN = ("csv", "html", "png", "flent", "log_file", "pid_file")
READ = ("public_key", "private_key", "users")
KEY_FILE = "secret_file_"
"""Beginning of the parameter names of the files with secrets (secret_flags.py)."""
STDOUT_USERS = ("json", "json_stream", "json_full", "log_file", "daemon")
"""Parameters that leave standard output to no CSV."""
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


def check_options(options: Sequence[click.Parameter], values: Mapping[str, Any]) -> None:
    """Raise `ParameterError` unless the CSV has a place, and every file of a command one use."""
    _check_csv(options, values)
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


def _check_csv(options: Sequence[click.Parameter], values: Mapping[str, Any]) -> None:
    csv = values.get("csv")
    if values.get("csv_overwrite") and csv in (None, "", STDOUT):
        raise ParameterError("--csv-overwrite needs the file that it replaces: --csv FILE")
    taken = next((name for name in STDOUT_USERS if values.get(name)), "")
    if csv == STDOUT and taken:
        flag = flag_of(options, taken)
        raise ParameterError(f"--csv - and {flag} exclude each other: both use standard output")


def flag_of(options: Iterable[click.Parameter], name: str) -> str:
    """The flag of the option with this name, as the help shows it."""
    return next(one.opts[0] for one in options if one.name == name)


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
