"""Secrets that the users of both ends share, for transports that declare one (`Transport.secret`).

A secret never becomes a setting, because settings travel to the peer and are recorded. It comes from a file,
from the environment, or from the command line, where the start of the program overwrites it
(`runtime/visible_arguments.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy.cli.value_types import Flag, Parsed, named
from iperfpy.errors import guarding
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.whole_file import read_whole

MOST_KEY_BYTES = 1 << 16
"""Length of the longest file with a key."""


def secret_flags(transports: Mapping[str, Transport]) -> list[Flag]:
    """Two flags for each prefix of transports with a secret; both roles have them."""
    flags = []
    for prefix, owners in _owners(transports).items():
        heading = f"With --proto {' or '.join(owners)}"
        secret = transports[owners[0]].secret
        words, file = Parsed("TEXT", str), Parsed("FILE", named("a file name"))
        key, key_file = _key_flags(prefix)
        # A reader of the help takes the first one.
        flags += [
            Flag(
                heading,
                [_parameter("secret_file", prefix), key_file],
                f"{secret}: the content of a file, or {variable(prefix)} in the environment; at both ends",
                transports=owners,
                type=file,
                metavar="FILE",
            ),
            Flag(
                heading,
                [_parameter("secret", prefix), key],
                f"{secret}, as text; other users may see it while the program starts",
                transports=owners,
                type=words,
                metavar="TEXT",
            ),
        ]
    return flags


def key_flags(transports: Mapping[str, Transport]) -> list[str]:
    """The flags with the secrets of these transports."""
    return [flag for prefix in _owners(transports) for flag in _key_flags(prefix)]


def _key_flags(prefix: str) -> tuple[str, str]:
    """The flag with a secret as text, and the one with a file."""
    return f"--{prefix}-key", f"--{prefix}-key-file"


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
        if typed is not None and path is not None:
            raise SettingsError(f"{' and '.join(_key_flags(prefix))} exclude each other")
        if path is not None:
            found[prefix] = _read(path)
        elif typed is not None:
            found[prefix] = os.fsencode(typed)
        elif text := os.environ.get(variable(prefix)):  # an empty variable is as good as none
            found[prefix] = os.fsencode(text)
    return found


def check_typed_secrets(
    values: Mapping[str, Any],
    transports: Mapping[str, Transport],
    tests: Sequence[tuple[Transport, Settings]],
) -> None:
    """Raise `SettingsError` if a secret was typed, or a file with one, that none of the tests uses. One in
    the environment may be there for other tests."""
    for prefix, owners in _owners(transports).items():
        flags = zip(("secret", "secret_file"), _key_flags(prefix), strict=True)
        typed = [flag for kind, flag in flags if values.get(_parameter(kind, prefix)) is not None]
        own = [(one, settings) for one, settings in tests if one.prefix == prefix]
        if not typed or any(_uses_secret(one, settings) for one, settings in own):
            continue
        if own:
            secret = transports[owners[0]].secret
            raise SettingsError(f"{typed[0]} has no use here: these settings need no {secret}")
        names = ", ".join(dict.fromkeys(one.name for one, _ in tests))
        raise SettingsError(f"{typed[0]} does not apply to --proto {names}")


def _uses_secret(transport: Transport, settings: Settings) -> bool:
    with guarding(transport.name):
        return transport.uses_secret(settings)


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
