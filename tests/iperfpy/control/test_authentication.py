"""Authentication tokens of iperf3: encoding, checking, and refusals that give an attacker no hint."""

from __future__ import annotations

import base64
import hashlib

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from iperfpy.control.authentication import (
    check_token,
    make_token,
    private_key,
    public_key,
    users_of,
)
from iperfpy.errors import KeyFileError, PlanError

KEY = rsa.generate_private_key(65537, 2048)
NOW = 1_800_000_000
# The example of iperf3's manual: user mario, password rossi.
USERS = users_of(
    b"# who may measure\n\nmario,bf7a49a846d44b454a5d11e7acfaf13d138bbe0b7483aa3e050879700572709b # rossi\n"
)


def encrypted_token(text: bytes) -> str:
    return base64.b64encode(KEY.public_key().encrypt(text, padding.PKCS1v15())).decode()


@pytest.mark.parametrize("pkcs1", [False, True])
@pytest.mark.parametrize("late_s", [-10, 0, 10])
def test_a_valid_token_yields_its_user_name(pkcs1: bool, late_s: int) -> None:
    token = make_token("mario", "rossi", KEY.public_key(), NOW, pkcs1=pkcs1)
    assert check_token(token, KEY, USERS, NOW + late_s, 10, pkcs1=pkcs1) == "mario"


def test_the_plaintext_of_a_token_is_iperf3s() -> None:
    token = make_token("mario", "rossi", KEY.public_key(), NOW, pkcs1=True)
    assert KEY.decrypt(base64.b64decode(token), padding.PKCS1v15()) == (
        b"user: mario\npwd:  rossi\nts:   1800000000"
    )


def test_user_names_and_passwords_may_contain_separators() -> None:
    user, password = "a b,c", "pwd:  ö\nts:   5"
    digest = hashlib.sha256(f"{{{user}}}{password}".encode()).hexdigest()
    token = make_token(user, password, KEY.public_key(), NOW)
    assert check_token(token, KEY, users_of(f"{user},{digest}".encode()), NOW, 10) == user


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "this server requires a user name and a password"),
        (5, "this server requires a user name and a password"),
        ("", "this server cannot read the password: another key, or another padding"),
        ("*", "this server cannot read the password: another key, or another padding"),
        ("AAAA", "this server cannot read the password: another key, or another padding"),
        (encrypted_token(b"\xff"), "this server cannot read the password: another key, or another padding"),
        (
            encrypted_token(b"user: x"),
            "this server cannot read the password: another key, or another padding",
        ),
        (
            encrypted_token(b"user: x\npwd:  y\nts:   1"),
            "this server does not know this user name and password",
        ),
        (
            encrypted_token(b"user: mario\npwd:  y\nts:   1"),
            "this server does not know this user name and password",
        ),
        (
            encrypted_token(b"user: \npwd:  \nts:   1"),
            "this server does not know this user name and password",
        ),
        (
            encrypted_token(b"user: mario\npwd:  rossi\nts:   1799999989"),
            "the clocks of client and server differ by more than 10 s",
        ),
    ],
)
def test_a_bad_token_is_refused_with_its_reason(token: object, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_token(token, KEY, USERS, NOW, 10, pkcs1=True)
    assert (str(caught.value), caught.value.i_errno) == (sentence, 142)


@pytest.mark.parametrize("pkcs1", [False, True])
def test_a_token_is_refused_under_another_key_or_padding(pkcs1: bool) -> None:
    other = rsa.generate_private_key(65537, 2048)
    token = make_token("mario", "rossi", KEY.public_key(), NOW, pkcs1=pkcs1)
    for key, padded in ((other, pkcs1), (KEY, not pkcs1)):
        with pytest.raises(PlanError, match="another key, or another padding"):
            check_token(token, key, USERS, NOW, 10, pkcs1=padded)


def test_a_password_too_long_for_the_key_is_refused() -> None:
    with pytest.raises(PlanError, match="too long for this public key"):
        make_token("mario", "x" * 300, KEY.public_key(), NOW)


def test_a_line_without_user_and_hash_is_reported_by_its_number() -> None:
    with pytest.raises(KeyFileError, match="has no NAME,SHA256 in line 2"):
        users_of(b"# first\nmario,rossi\n")


def test_a_list_of_users_is_text() -> None:
    with pytest.raises(KeyFileError, match="is not text"):
        users_of(b"\xff\xfe")


def test_files_that_are_not_rsa_keys_are_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    # An elliptic-curve key is well-formed PEM, but cannot decrypt a token.
    locked = KEY.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x"))
    with pytest.raises(KeyFileError, match="is protected by a password"):
        private_key(locked)
    with pytest.raises(KeyFileError, match="is not an RSA key"):
        private_key(curve.private_bytes(pem, pkcs8, plain))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    with pytest.raises(KeyFileError, match="is not an RSA key"):
        public_key(curve.public_key().public_bytes(pem, public))
    for text in (b"", b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(KeyFileError, match="is not a private key"):
            private_key(text)
        with pytest.raises(KeyFileError, match="is not a public key"):
            public_key(text)
