"""iperf3's passwords: a token in the parameters that only the owner of the private key can read.

    token    base64(RSA("user: NAME\\npwd:  PASSWORD\\nts:   SECONDS"))
    users    NAME,sha256hex("{NAME}PASSWORD")      one per line, # begins a comment

The padding is OAEP with SHA-1, as in iperf3 since 3.17, or PKCS #1 v1.5 for older ones. The token proves the
user and the time of a request; it protects nothing else. `cryptography` is imported only when used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import KeyFileError, PlanError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

LEAST_VERSION = 42
"""Of `cryptography`, as the extra 'auth' has it in pyproject.toml. Older ones take other arguments."""
MOST_USERS_BYTES = 1 << 24
"""Length of the longest file of users."""
_TOKEN = re.compile(r"user: (.*)\npwd:  (.*)\nts:   (\d{1,18})\0?", re.DOTALL)


def check_cryptography() -> None:
    """Raise `PlanError` unless `cryptography` is installed, and new enough."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("cryptography")
    except PackageNotFoundError:
        installed = ""
    number = re.match(r"\d+", installed)
    if number is None or int(number[0]) < LEAST_VERSION:
        has = f"{installed} is installed" if installed else "it is not installed"
        raise PlanError(
            f"passwords need cryptography {LEAST_VERSION} or later, and {has}: install iperfpy with the"
            " extra 'auth'"
        )


@cache
def public_key(pem: bytes) -> RSAPublicKey:
    """The key that a client encrypts with. Raises `KeyFileError`."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise KeyFileError("is not a public key in PEM format") from error
    if not isinstance(key, RSAPublicKey):
        raise KeyFileError("is not an RSA key")
    return key


@cache
def private_key(pem: bytes) -> RSAPrivateKey:
    """The key that a server decrypts with; it must not have a password. Raises `KeyFileError`."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise KeyFileError("is protected by a password") from error
    except ValueError as error:
        raise KeyFileError("is not a private key in PEM format") from error
    if not isinstance(key, RSAPrivateKey):
        raise KeyFileError("is not an RSA key")
    return key


def users_of(content: bytes) -> dict[str, str]:
    """Name -> SHA-256 in hex, from the lines of a file of users. Raises `KeyFileError`."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise KeyFileError("is not text") from error
    users = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, comma, digest = line.partition("#")[0].strip().rpartition(",")
        if not name and not comma and not digest:
            continue
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest.strip()):
            raise KeyFileError(f"has no NAME,SHA256 in line {number}")
        users[name.strip()] = digest.strip().lower()
    return users


def make_token(user: str, password: str, key: RSAPublicKey, unix_s: int, *, pkcs1: bool = False) -> str:
    """The parameter `authtoken`. Raises `PlanError` if the key is too short for it."""
    plain = f"user: {user}\npwd:  {password}\nts:   {unix_s}".encode()
    try:
        sealed: bytes = key.encrypt(plain, _padding(pkcs1))
    except ValueError as error:
        raise PlanError("the user name and the password are too long for this public key") from error
    return base64.b64encode(sealed).decode()


def check_token(
    token: object,
    key: RSAPrivateKey,
    users: Mapping[str, str],
    unix_s: int,
    skew_s: int,
    *,
    pkcs1: bool = False,
) -> str:
    """The name of the user, once the password is found to be right. Raises `PlanError`.

    The error does not tell a wrong name from a wrong password.
    """
    if not isinstance(token, str):
        raise PlanError("this server requires a user name and a password", ErrorNumber.AUTHENTICATION)
    user, password, made_s = _opened(token, key, pkcs1)
    # An unknown user gets the same answer as a wrong password.
    known = users.get(user, "")
    digest = hashlib.sha256(f"{{{user}}}{password}".encode()).hexdigest()
    if not hmac.compare_digest(digest, known):
        raise PlanError("this server does not know this user name and password", ErrorNumber.AUTHENTICATION)
    if abs(unix_s - made_s) > skew_s:
        raise PlanError(
            f"the clocks of client and server differ by more than {skew_s} s", ErrorNumber.AUTHENTICATION
        )
    return user


def _opened(token: str, key: RSAPrivateKey, pkcs1: bool) -> tuple[str, str, int]:
    try:
        plain: bytes = key.decrypt(base64.b64decode(token, validate=True), _padding(pkcs1))
        found = _TOKEN.fullmatch(plain.decode())
    except (ValueError, binascii.Error):
        found = None
    if found is None:
        raise PlanError(
            "this server cannot read the password: another key, or another padding",
            ErrorNumber.AUTHENTICATION,
        )
    return found[1], found[2], int(found[3])


def _padding(pkcs1: bool) -> AsymmetricPadding:
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.hashes import SHA1

    if pkcs1:
        return padding.PKCS1v15()
    return padding.OAEP(mgf=padding.MGF1(SHA1()), algorithm=SHA1(), label=None)
