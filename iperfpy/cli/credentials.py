"""Passwords on the command line: keys and users are read, and looked at, before anything else happens."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from iperfpy.control.authentication import MISSING, private_key, public_key, users_of
from iperfpy.errors import KeyFileError
from iperfpy.options import Authorization, Credentials
from iperfpy.protocols.errors import SettingsError

PASSWORD_VARIABLE = "IPERF3_PASSWORD"

T = TypeVar("T")


class Given(Protocol):
    """The parsed parameters."""

    def __getitem__(self, name: str) -> Any: ...


def credentials_of(given: Given) -> Credentials:
    """Who the client is; asks for the password when the environment does not have it.

    Raises `SettingsError`.
    """
    user, path = given["username"], given["public_key"]
    if not user or not path:
        raise SettingsError("a password needs both --username and --rsa-public-key-path")
    _require_cryptography()
    pem = Path(path)
    _checked(path, lambda: public_key(pem.read_bytes()))
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        try:
            password = getpass.getpass("Password: ")
        except (EOFError, OSError) as error:
            raise SettingsError(f"there is no password: set {PASSWORD_VARIABLE}") from error
    return Credentials(user, password, pem.read_bytes(), given["pkcs1"])


def authorization_of(given: Given) -> Authorization:
    """Who may use the server. Raises `SettingsError`."""
    key, users = given["private_key"], given["users"]
    if not key or not users:
        raise SettingsError("passwords need both --rsa-private-key-path and --authorized-users-path")
    _require_cryptography()
    _checked(key, lambda: private_key(Path(key).read_bytes()))
    _checked(users, lambda: users_of(Path(users).read_text()))
    path = str(Path(users).resolve())
    return Authorization(Path(key).read_bytes(), path, given["skew"], given["pkcs1"])


def _checked(path: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (KeyFileError, UnicodeDecodeError) as error:
        why = str(error) if isinstance(error, KeyFileError) else "is not text"
        raise SettingsError(f"{path} {why}") from error


def _require_cryptography() -> None:
    if find_spec("cryptography") is None:
        raise SettingsError(MISSING)
