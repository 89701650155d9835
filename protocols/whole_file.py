"""Reads a file whole, with a limit: keys, lists of users, PID files, saved runs.

A user may name anything: a device has no end, and a named pipe may never have a beginning.
"""

from __future__ import annotations

import errno
import os
import re
import stat

_DESCRIPTOR = re.compile(r"/dev/stdin|(/dev|/proc/self)/fd/\d+", re.ASCII)


def read_whole(path: str | os.PathLike[str], most_bytes: int, *, descriptors: bool = False) -> bytes:
    """The content of a regular file of at most `most_bytes`.

    `descriptors`: also a pipe or a terminal with which the caller started this process: `/dev/stdin`, and the
    `/dev/fd/N` that stands for a shell's `<(...)`.

    Raises
    ------
    OSError
        The file cannot be read, is no regular file, or is longer.
    """
    name = os.fspath(path)
    inherited = descriptors and _DESCRIPTOR.fullmatch(name)
    if not inherited and not stat.S_ISREG(os.stat(name).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", name)
    with open(name, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {most_bytes:,} bytes", name)
    return content
