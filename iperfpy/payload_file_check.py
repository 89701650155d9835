"""The check of a file in place of generated payload (-F) before it is opened: its size, or its place."""

from __future__ import annotations

import errno
import os
import stat

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError
from iperfpy.plan import UNSIZED_BYTES


def payload_bytes(path: str) -> int:
    """The amount of data that the end of the file limits: its size, or `UNSIZED_BYTES` of a pipe or a device,
    which only its end, or the time, limits. Raises `PlanError` if the file is empty or cannot be read."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            return UNSIZED_BYTES
        if facts.st_size:
            return facts.st_size
        # The system's own files, such as those of /proc, have content and no size.
        with open(path, "rb") as file:
            if file.read(1):
                return UNSIZED_BYTES
    except (OSError, ValueError) as error:  # a ValueError: the text cannot be the name of a file
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"cannot read the file {path}: {reason}", ErrorNumber.FILE) from error
    raise PlanError(f"the file {path} is empty", ErrorNumber.FILE)


def check_place(path: str, *, reads: bool = False) -> None:
    """Raise `PlanError` unless the file can be written; the first payload makes one that does not exist.
    `reads`: a file that can only be read is as good, as at a server, which may be asked to send."""
    exists = os.path.exists(path)
    place = path if exists else os.path.dirname(path) or os.curdir
    modes = (os.W_OK, os.R_OK) if exists and reads else (os.W_OK,)
    if exists and os.path.isdir(path):
        reason = errno.EISDIR
    elif not os.path.isdir(place) and not exists:
        reason = errno.ENOTDIR if os.path.exists(place) else errno.ENOENT
    elif not any(os.access(place, mode) for mode in modes):
        reason = errno.EACCES
    else:
        return
    verb = "read or write" if reads else "write"
    raise PlanError(f"cannot {verb} the file {path}: {os.strerror(reason)}", ErrorNumber.FILE)
