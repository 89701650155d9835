"""Secrets that the users of both ends share, for transports that declare one (`Transport.secret`).

A secret never becomes a setting, because settings travel to the peer and are recorded. It comes from a file,
from the environment, or from the command line, where it is overwritten as soon as it is read: the system
shows the arguments of a process to every user.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iperfpy.cli.value_types import Flag, Parsed, named
from iperfpy.protocols import registry
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.whole_file import read_whole

MOST_KEY_BYTES = 1 << 16
"""Length of the longest file with a key."""
_ARGUMENTS = (45, 46)
"""Places of arg_start and arg_end among the fields of /proc/PID/stat behind the name (proc(5): 48 and 49)."""


def secret_flags(transports: Mapping[str, Transport]) -> list[Flag]:
    """Two flags for each prefix of transports with a secret; both roles have them."""
    flags = []
    for prefix, owners in _owners(transports).items():
        heading = f"With --proto {' or '.join(owners)}"
        secret = transports[owners[0]].secret
        words, file = Parsed("TEXT", str), Parsed("FILE", named("a file name"))
        # A reader of the help takes the first one.
        flags += [
            Flag(
                heading,
                [_parameter("secret_file", prefix), f"--{prefix}-key-file"],
                f"{secret}: the content of a file, or {variable(prefix)} in the environment; at both ends",
                transports=owners,
                type=file,
                metavar="FILE",
            ),
            Flag(
                heading,
                [_parameter("secret", prefix), f"--{prefix}-key"],
                f"{secret}, as text; other users may see it for a moment",
                transports=owners,
                type=words,
                metavar="TEXT",
            ),
        ]
    return flags


def variable(prefix: str) -> str:
    """The environment variable with the secret of the transports with this prefix."""
    return f"IPERFPY_{prefix.upper().replace('-', '_')}_KEY"


def _parameter(kind: str, prefix: str) -> str:
    """click's parameter name of a flag; click takes a name with a dash for a spelling of the flag."""
    return f"{kind}_{prefix}".replace("-", "_")


def variables(transports: Mapping[str, Transport]) -> dict[str, str]:
    """The environment variables with secrets, each with the noun phrase for its secret."""
    return {variable(prefix): transports[owners[0]].secret for prefix, owners in _owners(transports).items()}


def secrets_of(values: Mapping[str, Any], transports: Mapping[str, Transport]) -> dict[str, bytes]:
    """The secrets by prefix: typed, of a file, or of the environment. Raises `SettingsError`."""
    found = {}
    for prefix in _owners(transports):
        typed = values.get(_parameter("secret", prefix))
        path = values.get(_parameter("secret_file", prefix))
        if typed is not None:
            hide_argument(typed)
        if typed is not None and path is not None:
            raise SettingsError(f"--{prefix}-key and --{prefix}-key-file exclude each other")
        if path is not None:
            found[prefix] = _read(path)
        elif (text := typed if typed is not None else os.environ.get(variable(prefix))) is not None:
            found[prefix] = os.fsencode(text)
    return found


def environment_secrets() -> dict[str, bytes]:
    """The secrets by prefix, for a command without the flags."""
    return secrets_of({}, registry.transports())


def hide_argument(text: str) -> None:
    """Overwrite an argument of this process, which the system shows to other users. Only Linux has the place
    for it; elsewhere, and in a program that was not started with the argument, nothing happens."""
    words = os.fsencode(text)
    if not words:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = (int(fields[at]) for at in _ARGUMENTS)
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            hidden = arguments.replace(words, b"*" * len(words))
            if hidden != arguments:
                memory.seek(start)
                memory.write(hidden)


def _owners(transports: Mapping[str, Transport]) -> dict[str, tuple[str, ...]]:
    """The names of the transports that have a secret, by their prefix."""
    owners: dict[str, tuple[str, ...]] = {}
    for name, transport in transports.items():
        if transport.secret:
            owners[transport.prefix] = (*owners.get(transport.prefix, ()), name)
    return owners


def _read(path: str) -> bytes:
    """The content of a file, without the end of its last line."""
    try:
        content = read_whole(path, MOST_KEY_BYTES, descriptors=True)
    except OSError as error:
        raise SettingsError(f"cannot read the key file {path}: {error.strerror}") from error
    return content.rstrip(b"\r\n")
