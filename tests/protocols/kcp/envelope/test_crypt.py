"""Encryption in batches: byte for byte that of kcp-go and kcptun; datagrams of others are dropped."""

from __future__ import annotations

import hashlib
import random
import sys
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, aead, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.errors import SettingsError, StreamPeerError
from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.envelope.block_ciphers import XorTable
from iperfpy.protocols.kcp.envelope.crypt_layers import CryptLayer
from iperfpy.protocols.kcp.envelope.crypt_names import KINDS, check_secret
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer_factory import crypt_layer, derived
from iperfpy.protocols.kcp.envelope.replays import MOST, Replays
from iperfpy.protocols.kcp.settings import KcpSettings
from tests.protocols.kcp.ends import batches, examples, seg

ROOT = Path(__file__).parents[4]
KCPTUN_SECRET = b"it's a secrect"
KEY = "25d7d7bd51050742d8d791f2b653c6c8b2366b7e25a124cf7a2e12eaf4ffa444"
IV = bytes.fromhex("a7734f9c12ac1b01a415f2c1fc78e66b")
NAMES = [name for name in KINDS if name != "null"]


def layer(name: str, seed: int = 1, secret: bytes = KCPTUN_SECRET) -> CryptLayer:
    return crypt_layer(name, secret, random.Random(seed).randbytes)


def batch(count: int, size: int, last: int = 0, seed: int = 2) -> DatagramBatch:
    data = random.Random(seed).randbytes(count * size + last)
    return DatagramBatch.of(np.frombuffer(data, np.uint8), size)


def packets(sent: list[DatagramBatch]) -> list[bytes]:
    return [datagram.tobytes() for one in sent for datagram in one]


def opened(one: CryptLayer, wire: list[bytes]) -> list[bytes]:
    return [found for merged in batches(wire) for found in packets(one.open(merged, 0).arrived)]


def test_the_key_is_derived_as_kcptun_does() -> None:
    assert derived(KCPTUN_SECRET).hex() == KEY


def test_the_bytes_of_one_datagram() -> None:
    """A nonce of zeros, computed from kcp-go's rules."""
    sealed = crypt_layer("aes", KCPTUN_SECRET, bytes).seal([batch_of_bytes(bytes(range(24)))], 0)
    assert packets(sealed) == [
        bytes.fromhex(
            "86824140375e108ba118b5534608f79f354700ea214a6e4b98e5815aef87d05bcbee65d0f05e795568a20b82"
        )
    ]


def batch_of_bytes(data: bytes) -> DatagramBatch:
    return DatagramBatch.of(np.frombuffer(data, np.uint8), len(data))


def test_the_table_of_xor_is_kcp_gos() -> None:
    (sealed,) = packets(crypt_layer("xor", KCPTUN_SECRET, bytes).seal([batch_of_bytes(bytes(30))], 0))
    assert sealed[:8].hex() == "0ffe8987ad947571"


def test_growing_datagrams_have_the_table_of_xor_computed_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer chooses the lengths. The longest table takes tens of milliseconds."""
    sizes: list[int] = []
    compute = hashlib.pbkdf2_hmac

    def noted(name: str, key: bytes, salt: bytes, rounds: int, size: int) -> bytes:
        sizes.append(size)
        return compute(name, key, salt, 1, size)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", noted)
    cipher = XorTable(bytes(32))
    for width in range(16, 65_536, 64):
        cipher.decrypt(np.zeros((1, width), np.uint8), width)
    assert len(sizes) <= 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("count", "size", "last"), [(1, 24, 0), (5, 33, 7), (63, 1380, 100), (100, 1392, 24)]
)
def test_a_batch_decrypts_to_what_was_encrypted(name: str, count: int, size: int, last: int) -> None:
    """Many datagrams are encrypted block by block, few one after the other."""
    plain, receiver = batch(count, size, last), layer(name)
    sealed = packets(layer(name).seal([plain], 0))
    assert {len(packet) for packet in sealed} <= {size + receiver.header_bytes, last + receiver.header_bytes}
    assert opened(receiver, sealed) == packets([plain])
    assert (receiver.accepted, receiver.rejected, receiver.replayed) == (plain.count, 0, 0)


@pytest.mark.parametrize("count", [3, 200])
@pytest.mark.parametrize(("name", "key_bytes"), [("aes", 32), ("aes-192", 24), ("aes-128", 16)])
def test_each_datagram_decrypts_by_itself(name: str, key_bytes: int, count: int) -> None:
    """A stock peer has a context for each datagram, with one fixed vector; both directions."""
    plain = batch(count, 1380, 50)
    key = bytes.fromhex(KEY)[:key_bytes]
    for sealed, expected in zip(packets(layer(name).seal([plain], 0)), plain, strict=True):
        found = Cipher(algorithms.AES(key), CFB(IV)).decryptor().update(sealed)
        assert found[20:] == expected.tobytes()
        assert int.from_bytes(found[16:20], "little") == zlib.crc32(found[20:])
    theirs = []
    for number, payload in enumerate(plain):
        header = number.to_bytes(16, "big") + zlib.crc32(payload.tobytes()).to_bytes(4, "little")
        encryptor = Cipher(algorithms.AES(key), CFB(IV)).encryptor()
        theirs.append(encryptor.update(header + payload.tobytes()))
    assert opened(layer(name), theirs) == packets([plain])


def test_gcm_is_nonce_ciphertext_tag() -> None:
    plain, cipher = batch(3, 100), AESGCM(bytes.fromhex(KEY)[:16])
    for sealed, expected in zip(packets(layer("aes-128-gcm").seal([plain], 0)), plain, strict=True):
        assert cipher.decrypt(sealed[:12], sealed[12:], None) == expected.tobytes()


@pytest.mark.parametrize("beginning", [b"\0" * 12, b"\xff" * 12, b"\xfc" + b"\xff" * 11])
def test_no_nonce_of_gcm_comes_twice_and_its_beginning_is_random(beginning: bytes) -> None:
    sender = crypt_layer("aes-128-gcm", KCPTUN_SECRET, lambda size: beginning[:size])
    wire = [one for _ in range(5) for one in packets(sender.seal([batch(7, 100, 30)], 0))]
    nonces = [datagram[:12] for datagram in wire]
    assert nonces[0] == beginning
    assert len(set(nonces)) == len(nonces) == 40
    assert {nonce[8:] for nonce in nonces} == {beginning[8:]}
    assert len(opened(layer("aes-128-gcm"), wire)) == 40


@pytest.mark.parametrize("name", NAMES)
def test_changed_and_truncated_datagrams_are_dropped_and_the_others_are_not(name: str) -> None:
    plain, receiver, rng = batch(40, 200), layer(name), random.Random(3)
    sealed = packets(layer(name).seal([plain], 0))
    for at in range(0, 40, 4):
        changed = bytearray(sealed[at])
        changed[rng.randrange(20, len(changed))] ^= 1 << rng.randrange(8)
        sealed[at] = bytes(changed)
        sealed[at + 1] = sealed[at + 1][: rng.randrange(len(changed))]
    kept = [datagram for at, datagram in enumerate(packets([plain])) if at % 4 > 1]
    assert opened(receiver, sealed) == kept
    assert (receiver.accepted, receiver.rejected) == (20, 20)


@pytest.mark.parametrize("name", [name for name in NAMES if KINDS[name].key_bytes])
def test_nothing_of_another_key_is_accepted(name: str) -> None:
    receiver = layer(name, secret=b"another secret")
    assert opened(receiver, packets(layer(name).seal([batch(30, 60)], 0))) == []
    assert (receiver.accepted, receiver.rejected) == (0, 30)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_that_cancels_out_in_the_checksum_is_found_only_by_a_cipher_that_resists(name: str) -> None:
    """A multiple of the polynomial of CRC-32, in the last block of an acknowledgement."""
    plain = seg(81)
    (sealed,) = packets(layer(name).seal([DatagramBatch.of(np.frombuffer(plain, np.uint8), len(plain))], 0))
    change = (0xEDB88320 << 1 | 1).to_bytes(5, "little")
    altered = bytes(a ^ b for a, b in zip(sealed, change.rjust(len(sealed), b"\0"), strict=True))
    assert opened(layer(name), [sealed]) == [plain]
    found = opened(layer(name), [altered])
    assert (found == []) == KINDS[name].resists_change
    assert all(one[:-5] == plain[:-5] and one != plain for one in found)


@pytest.mark.parametrize("name", ["aes", "aes-128-gcm"])
def test_copies_are_dropped(name: str) -> None:
    """In one batch, and in the next one."""
    sender, receiver = layer(name), layer(name)
    sealed = packets(sender.seal([batch(10, 60)], 0))
    assert len(opened(receiver, [*sealed, *sealed[:3]])) == 10
    assert opened(receiver, sealed[5:]) == []
    assert (receiver.accepted - receiver.replayed, receiver.replayed) == (10, 8)


def test_a_late_copy_is_found_in_a_table_of_bounded_size() -> None:
    """Of copies of the 20,000th datagram before, one in ten has lost its place to a later one."""
    random, memory = np.random.default_rng(1), Replays()
    first = random.integers(0, 256, (1_000, 16), np.uint8)
    assert memory.fresh(first) is None
    for _ in range(200):
        assert memory.fresh(random.integers(0, 256, (100, 16), np.uint8)) is None
    again = memory.fresh(first)
    assert again is not None
    assert again.count(False) > 850
    for _ in range(100):
        assert memory.fresh(random.integers(0, 256, (10_000, 16), np.uint8)) is None
    assert memory._places.nbytes == 8 * MOST


@given(data=st.binary(max_size=300), stride=st.integers(1, 80), name=st.sampled_from(NAMES))
@examples(100)
def test_arbitrary_bytes_do_not_harm_a_receiver(data: bytes, stride: int, name: str) -> None:
    receiver, arrived = layer(name), DatagramBatch.of(np.frombuffer(data, np.uint8), stride)
    assert receiver.open(arrived, 0).arrived == []
    assert receiver.rejected == arrived.count


def test_a_stream_that_decrypts_nothing_names_the_key() -> None:
    engine = engine_factory.stock(7, KcpSettings())
    wrapped = EnvelopedEngine(engine, [layer("aes")])
    assert not wrapped.understands
    strange = packets(layer("aes", secret=b"another secret").seal([batch(4, 24)], 0))
    for datagram in strange[:3]:
        wrapped.receive(batches([datagram])[0], 0)
    assert not wrapped.understands
    wrapped.receive(batches(strange[3:])[0], 0)
    with pytest.raises(StreamPeerError, match=r"is the key \(--kcp-key\) the same at both ends"):
        _ = wrapped.understands
    assert engine.counts.datagrams_received == 4
    (said,) = wrapped.warnings()
    assert "dropped 4 datagrams that could not be decrypted" in said


def test_garbage_among_the_datagrams_of_the_peer_is_one_warning() -> None:
    engine = engine_factory.stock(0x1122_3344, KcpSettings())
    wrapped = EnvelopedEngine(engine, [layer("aes-128-gcm", seed=5)])
    (probe,) = packets(layer("aes-128-gcm", seed=6).seal([batch_of_bytes(seg(83))], 0))
    wrapped.receive(batches([probe])[0], 0)
    for _ in range(20):
        wrapped.receive(batch(3, 60), 0)
    wrapped.receive(batches([probe])[0], 0)
    assert wrapped.understands
    assert len(wrapped.warnings()) == 2
    assert wrapped.figures() == {"crypt_rejected": 60, "crypt_replayed": 1}


@pytest.mark.parametrize(
    ("crypt", "secret", "sentence"),
    [
        ("aes", None, "needs the key that both ends share"),
        ("aes-128-gcm", b"short", r"^the key \(--kcp-key\) is too short: at least 8 bytes are needed$"),
        ("xor", None, "needs the key"),
    ],
)
def test_a_missing_or_short_key_is_refused(crypt: str, secret: bytes | None, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        check_secret(crypt, secret)


@pytest.mark.parametrize("crypt", ["blowfish", "twofish", "cast5", "3des", "tea", "xtea", "sm4"])
def test_the_error_for_another_cipher_of_kcptun_says_why_it_is_left_out(crypt: str) -> None:
    with pytest.raises(SettingsError, match=rf"not '{crypt}'; .*{crypt}.* of kcptun are left out, because"):
        KcpSettings(crypt=crypt)
    with pytest.raises(SettingsError, match=r"not 'rot13'$"):
        KcpSettings(crypt="rot13")


@pytest.mark.parametrize(
    ("crypt", "module", "package"),
    [
        ("aes", "cryptography.hazmat.decrepit.ciphers.modes", "cryptography 47 or later"),
        ("aes-128-gcm", "cryptography.hazmat.primitives.ciphers.aead", "cryptography 47 or later"),
        ("salsa20", "Crypto.Cipher.Salsa20", "pycryptodome"),
    ],
)
def test_a_cipher_without_its_package_names_the_extra(
    crypt: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before cryptography 47, the module of CFB does not exist."""
    check_secret(crypt, b"long enough")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"'crypt' \({package}\): pip install 'iperfpy\[crypt\]'"):
        check_secret(crypt, b"long enough")
    check_secret("none", None)


def test_a_class_without_a_method_that_a_cipher_needs_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before cryptography 47, AESGCM encrypts into no memory of its caller."""
    monkeypatch.setattr(aead, "AESGCM", type("AESGCM", (), {"encrypt": AESGCM.encrypt}))
    with pytest.raises(SettingsError, match="cryptography 47 or later"):
        check_secret("aes-128-gcm", b"long enough")


def test_the_extra_installs_versions_with_the_features() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [word.replace(">=", " ") for word in project["optional-dependencies"]["crypt"]]
    for kind in KINDS.values():
        if kind.feature is not None:
            words = kind.feature.package.removesuffix(" or later")
            assert any(f"{one} ".startswith(f"{words} ") for one in needed)


def test_the_size_of_datagrams_must_hold_the_headers() -> None:
    with pytest.raises(SettingsError, match=r"at least 86 with --kcp-fec and --kcp-crypt: .* take 36"):
        KcpSettings(mtu=85, fec="10:3", crypt="aes-128-gcm")
    assert KcpSettings(mtu=86, fec="10:3", crypt="aes-128-gcm").datagram_bytes == 50
    assert KcpSettings(crypt="null") == KcpSettings()
    with pytest.raises(SettingsError, match="must be one of"):
        KcpSettings(crypt="rot13")
