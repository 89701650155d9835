"""Passwords: the keys and the list of users are read and checked before a test or a server starts."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from iperfpy.cli.secret_flags import MOST_KEY_BYTES
from iperfpy.control.authentication import (
    MOST_USERS_BYTES,
    check_cryptography,
    private_key,
    public_key,
    users_of,
)
from iperfpy.errors import KeyFileError, PlanError
from iperfpy.options import Authorization, Credentials
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.whole_file import read_whole

PASSWORD_VARIABLE = "IPERF3_PASSWORD"

T = TypeVar("T")


def credentials_of(user: str | None, key_path: str | None, *, pkcs1: bool) -> Credentials:
    """A client's user name, password and the server's public key. The password comes from the environment,
    or from a prompt on the terminal. Raises `SettingsError`."""
    if not user or not key_path:
        raise SettingsError("a password needs both --username and --rsa-public-key-path")
    # The key is read before the prompt: no user types a password for a key that cannot be used.
    _require_cryptography()
    pem = _read(key_path, public_key)
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        try:
            password = getpass.getpass("Password: ")
        except (EOFError, OSError) as error:
            raise SettingsError(f"no password: set {PASSWORD_VARIABLE}, or run on a terminal") from error
    return Credentials(user, password, pem, pkcs1)


def authorization_of(
    key_path: str | None, users_path: str | None, *, skew_s: int, pkcs1: bool
) -> Authorization:
    """A server's private key and its list of users. Raises `SettingsError`."""
    if not key_path or not users_path:
        raise SettingsError("passwords need both --rsa-private-key-path and --authorized-users-path")
    _require_cryptography()
    pem = _read(key_path, private_key)
    _checked(users_path, lambda: users_of(read_whole(users_path, MOST_USERS_BYTES)))
    # The server reads the users anew for every client, perhaps after it changed its working directory.
    path = str(Path(users_path).resolve())
    return Authorization(pem, path, skew_s, pkcs1)


def _read(path: str, check: Callable[[bytes], object]) -> bytes:
    """The content of a key file that passes the check. A pipe is read once. Raises `SettingsError`."""

    def read() -> bytes:
        pem = read_whole(path, MOST_KEY_BYTES, descriptors=True)
        check(pem)
        return pem

    return _checked(path, read)


def _checked(path: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except KeyFileError as error:
        raise SettingsError(f"{path} {error}") from error


def _require_cryptography() -> None:
    try:
        check_cryptography()
    except PlanError as error:
        raise SettingsError(str(error)) from None
