"""Secrets among the arguments of this process, which the system shows to every user (`ps`).

They are overwritten before anything else is imported. The module imports little, so that they are soon.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

_STAT, _MEMORY = "/proc/self/stat", "/proc/self/mem"
_BOUNDS = (45, 46)
"""Places of arg_start and arg_end among the fields of /proc/PID/stat behind the name (proc(5): 48 and 49)."""
_FLAG = rb"--[\w-]+-key(?![\w-])"
_SHELL_WORD = rb"""(?:"(?:\\[^\0]|[^"\\\0])*"|'[^'\0]*'|\\[^\0]|[^\s\0'"\\])+"""
_SECRET = rb"((?:\A|\0)%b[\0=])([^\0]*)|(%b(?:=|\s+))(%b)" % (_FLAG, _FLAG, _SHELL_WORD)
"""A flag that is an argument, or begins one, and the rest of this or the next one; or, anywhere else in an
argument, which is then a command line for a shell, a flag and the word behind it."""


def hide_secrets(words: Sequence[str]) -> bool:
    """Overwrite the words behind `--...-key` among the arguments of this process, also behind the `--` of
    `iperfpy lab` and within the text of its `--server`.

    Returns False if `words`, the command line, have a secret that other users may go on seeing: only Linux
    lets a program do it, and may refuse it.
    """
    if not has_secret(words):
        return True
    import re

    try:
        with open(_STAT, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = (int(fields[at]) for at in _BOUNDS)
        with open(_MEMORY, "r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            hidden = re.sub(_SECRET, _masked, arguments)
            if hidden != arguments:
                memory.seek(start)
                memory.write(hidden)
    except (OSError, ValueError, IndexError):
        return False
    return True


def has_secret(words: Sequence[str]) -> bool:
    """True if one of the words is a flag `--...-key`, or a command line with one."""
    if not any("-key" in word for word in words):
        return False
    import re  # not needed for most command lines

    return any(re.search(_FLAG, os.fsencode(word)) for word in words)


def _masked(found: re.Match[bytes]) -> bytes:
    """The text of a match with its secret as asterisks; the length of the arguments stays."""
    flag, secret = (found[1], found[2]) if found[1] is not None else (found[3], found[4])
    return flag + b"*" * len(secret)
