"""The size of a file that is sent in place of generated payload (-F), before it is opened for that."""

from __future__ import annotations

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
