"""The key files and the list of users of the command line."""

from __future__ import annotations

import os
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import iperfpy
from iperfpy.cli.credentials import PASSWORD_VARIABLE, authorization_of, credentials_of
from iperfpy.control.authentication import LEAST_VERSION
from iperfpy.errors import PlanError
from iperfpy.options import Authorization, Credentials
from iperfpy.protocols.errors import SettingsError
from tests.architecture import ROOT

KEY = rsa.generate_private_key(65537, 2048)
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A named pipe without a writer."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return str(path)


def test_a_key_that_comes_through_a_pipe_is_read_once() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, PUBLIC)
        os.close(writing)
        credentials = credentials_of("me", f"/dev/fd/{reading}", pkcs1=False)
    finally:
        os.close(reading)
    assert credentials.public_key_pem == PUBLIC


def test_keys_and_users_are_regular_files(tmp_path: Path, pipe: str) -> None:
    key = tmp_path / "key"
    key.write_bytes(PRIVATE)
    for path in (pipe, "/dev/zero"):
        sentence = f"^cannot read {path}: it is not a regular file$"
        with pytest.raises(SettingsError, match=sentence):
            credentials_of("me", path, pkcs1=False)
        with pytest.raises(SettingsError, match=sentence):
            authorization_of(path, str(key), skew_s=10, pkcs1=False)
        with pytest.raises(SettingsError, match=sentence):
            authorization_of(str(key), path, skew_s=10, pkcs1=False)


def test_the_users_of_a_descriptor_are_refused(tmp_path: Path) -> None:
    """They are read again for every client."""
    key = tmp_path / "key"
    key.write_bytes(PRIVATE)
    reading, writing = os.pipe()
    try:
        os.close(writing)
        with pytest.raises(SettingsError, match="it is not a regular file"):
            authorization_of(str(key), f"/dev/fd/{reading}", skew_s=10, pkcs1=False)
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("version", "has"), [("41.0.7", "41.0.7 is installed"), ("odd", "odd is installed"), (None, "it is not")]
)
def test_a_package_that_is_too_old_is_named_before_a_key_is_read(
    version: str | None, has: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr("importlib.metadata.version", installed)
    sentence = f"^passwords need cryptography 42 or later, and {has}"
    with pytest.raises(SettingsError, match=sentence):
        credentials_of("me", "/no/key", pkcs1=False)
    with pytest.raises(SettingsError, match=sentence):
        authorization_of("/no/key", "/no/users", skew_s=10, pkcs1=False)
    # Without the command line as well.
    with pytest.raises(PlanError, match=sentence):
        iperfpy.measure("127.0.0.1", port=1, credentials=Credentials("me", "secret", PUBLIC))
    with pytest.raises(PlanError, match=sentence):
        iperfpy.serve(port=0, authorization=Authorization(PRIVATE, "/no/users"))


def test_the_least_version_is_that_of_the_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["auth"] == [f"cryptography>={LEAST_VERSION}"]
