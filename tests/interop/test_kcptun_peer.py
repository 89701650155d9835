"""`iperfpy kcp-peer --smux` against kcptun, in both roles and both versions of smux, with and
without compression."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from iperfpy.cli.main import main
from tests.interop.conftest import peer
from tests.interop.envelope_exchange import SECRET, Case, kcptun
from tests.interop.free_port import free_port
from tests.open_ports import open_ports

pytestmark = [pytest.mark.interop, pytest.mark.live]

CASE = Case("kcptun", sends=True, crypt="aes", fec="10:3")
ENVELOPE = ("--kcp-fec", "10:3", "--kcp-crypt", "aes", "--kcp-key", SECRET)
TOTAL = 3_000_000
WAIT_S = 30.0
Words = tuple[str, ...]
TUNNELS = pytest.mark.parametrize(
    ("tunnel", "smux"),
    [
        (("--smuxver", "1"), ("--smux", "1")),
        (("--smuxver", "2"), ("--smux", "2")),
        (("--smuxver", "1", "--nocomp=false"), ("--smux", "1", "--compress")),
        (("--smuxver", "2", "--nocomp=false"), ("--smux", "2", "--compress")),
    ],
    ids=["1", "2", "1-compressed", "2-compressed"],
)
"""Flags of kcptun, and those of `kcp-peer` that fit them."""


class Target(threading.Thread):
    """The program behind kcptun's server: takes one TCP connection, and reads it, returns it, or sends on it.

    Attributes
    ----------
    received : bytes
    ended : True once the connection was closed by kcptun
    """

    def __init__(self, kind: str) -> None:
        super().__init__(daemon=True)
        self._kind = kind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.port: int = self._listener.getsockname()[1]
        self.received, self.ended = 0, False
        self.start()

    def run(self) -> None:
        # A run that fails as it should may open no connection, and the wait ends without an error then.
        with self._listener, contextlib.suppress(OSError):
            connection = self._listener.accept()[0]
            with connection, contextlib.suppress(OSError):
                connection.settimeout(WAIT_S)
                while self._kind == "source":
                    connection.sendall(bytes(1 << 16))
                while data := connection.recv(1 << 16):
                    self.received += len(data)
                    if self._kind == "echo":
                        connection.sendall(data)
            self.ended = True


@contextlib.contextmanager
def server(target: int, *flags: str) -> Iterator[str]:
    """kcptun's server before a TCP port; its address."""
    peer("kcptun-server")
    port = free_port()
    addresses = ("--listen", f"127.0.0.1:{port}", "--target", f"127.0.0.1:{target}")
    with kcptun(CASE, "kcptun-server", *addresses, *flags):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def client(kind: str, *flags: str) -> Iterator[tuple[str, Any]]:
    """The address that kcptun's client will dial, with a program before it; that program, which has ended
    with the context."""
    peer("kcptun-client")
    local, remote = free_port(), free_port()
    application = Application(kind, local, remote)
    addresses = ("--localaddr", f"127.0.0.1:{local}", "--remoteaddr", f"127.0.0.1:{remote}", "--conn", "1")
    with kcptun(CASE, "kcptun-client", *addresses, *flags):
        application.start()
        yield f"127.0.0.1:{remote}", application
        application.join(WAIT_S)


def _send_all(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(bytes(TOTAL))


class Application(threading.Thread):
    """The program before kcptun's client, once the other end of the tunnel listens: sends `TOTAL` bytes, and
    reads as many back from an echo; or reads until the connection ends."""

    def __init__(self, kind: str, port: int, awaited: int) -> None:
        super().__init__(daemon=True)
        self._kind, self._port, self._awaited = kind, port, awaited
        self.received = 0

    def run(self) -> None:
        ends = time.monotonic() + WAIT_S
        while self._awaited not in open_ports("udp") and time.monotonic() < ends:
            time.sleep(0.02)
        # A tunnel that breaks off is the business of the test, not of this thread.
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S) as connection,
        ):
            sending = threading.Thread(target=_send_all, args=(connection,), daemon=True)
            if self._kind != "sink":
                sending.start()
            if self._kind == "source":
                sending.join(WAIT_S)
                return
            while (self._kind == "sink" or self.received < TOTAL) and (data := connection.recv(1 << 16)):
                self.received += len(data)


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The document of a run of `kcp-peer` in this process."""
    capsys.readouterr()
    status = main(["kcp-peer", *words, *ENVELOPE, "--idle-timeout", "20", "-J"])
    output = capsys.readouterr()
    assert status == 0, output.err
    document: dict[str, Any] = json.loads(output.out)
    return document


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The error of a run that fails."""
    assert main(["kcp-peer", *words, "-J"]) == 1
    sentence: str = json.loads(capsys.readouterr().out)["error"]
    return sentence


@TUNNELS
@pytest.mark.parametrize("proto", ["kcp", "kcp-bbr"])
def test_a_sink_behind_kcptun_gets_the_payload_exactly(
    tunnel: Words, smux: Words, proto: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("sink")
    with server(target.port, *tunnel) as address:
        words = (address, *smux, "-n", str(TOTAL), "--proto", proto)
        found = measured(capsys, *words)
        target.join(5)
    assert found["end"]["sum_sent"]["bytes"] == target.received == TOTAL
    # FIN has reached the program behind the tunnel, before kcptun ended.
    assert target.ended


@TUNNELS
def test_a_timed_test_ends_with_fin(tunnel: Words, smux: Words, capsys: pytest.CaptureFixture[str]) -> None:
    target = Target("sink")
    with server(target.port, *tunnel) as address:
        found = measured(capsys, address, *smux, "-t", "1")
        target.join(5)
        assert not target.is_alive()
    # All that was acknowledged had been read or was on its way through the tunnel.
    assert 0 < found["end"]["sum_sent"]["bytes"] <= target.received


@TUNNELS
def test_a_source_behind_kcptun_is_received(
    tunnel: Words, smux: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("source")
    with server(target.port, *tunnel) as address:
        found = measured(capsys, address, "-R", *smux, "-n", str(TOTAL))
        target.join(5)
        assert not target.is_alive()
    assert found["end"]["sum_received"]["bytes"] >= TOTAL


@TUNNELS
def test_an_echo_behind_kcptun_returns_bulk_data_and_messages(
    tunnel: Words, smux: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("echo")
    with server(target.port, *tunnel) as address:
        found = measured(capsys, address, "--echo", *smux, "-n", str(TOTAL))
    assert found["end"]["sum_sent"]["bytes"] == target.received == TOTAL
    assert found["end"]["sum_received_bidir_reverse"]["bytes"] == TOTAL
    target = Target("echo")
    with server(target.port, *tunnel) as address:
        found = measured(capsys, address, "--echo", *smux, "--rate", "50", "-t", "1")
    assert found["end"]["messages"]["answered"] == 50


@TUNNELS
def test_a_sender_through_kcptun_dials_a_sink(
    tunnel: Words, smux: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    with client("source", *tunnel) as (address, _):
        found = measured(capsys, "--listen", address, *smux, "--silence", "1")
    assert found["end"]["sum_received"]["bytes"] == TOTAL


@TUNNELS
def test_a_reader_through_kcptun_gets_the_payload_exactly(
    tunnel: Words, smux: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    with client("sink", *tunnel) as (address, application):
        words = ("--listen", address, "-R", *smux, "-n", str(TOTAL))
        found = measured(capsys, *words)
    assert found["end"]["sum_sent"]["bytes"] == application.received == TOTAL


@TUNNELS
def test_an_echo_is_dialled_through_kcptun(
    tunnel: Words, smux: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    with client("echo", *tunnel) as (address, application):
        found = measured(capsys, "--listen", address, "--echo", *smux, "--silence", "1")
    assert found["end"]["sum_received"]["bytes"] == application.received == TOTAL


def test_no_program_behind_kcptun_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with server(free_port(), "--smuxver", "1") as address:
        sentence = failed(capsys, address, "--smux", "1", "-t", "5", *ENVELOPE)
    assert "does a program listen at kcptun's --target" in sentence


@pytest.mark.parametrize(
    ("tunnel", "smux", "sentence"),
    [
        ("--nocomp=false", "--smux 1", "does kcptun have --nocomp (else give --compress)"),
        ("--nocomp=false", "--smux 2", "does kcptun have --nocomp (else give --compress)"),
        ("--smuxver 2", "--smux 1", "--smuxver 1?"),
        ("", "--smux 2", "--smuxver 2?"),
        ("", "--smux 1 --compress", "does kcptun have compression (no --nocomp), and --smuxver 1?"),
        ("--smuxver 2 --nocomp=false", "--smux 1 --compress", "--smuxver 1?"),
    ],
)
def test_another_setting_of_kcptun_is_named(
    tunnel: str, smux: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server closes its KCP session, without a word."""
    target = Target("sink")
    with server(target.port, *tunnel.split()) as address:
        assert sentence in failed(capsys, address, *smux.split(), "-t", "8", *ENVELOPE)


@pytest.mark.parametrize(
    ("tunnel", "smux", "sentence"),
    [
        ("--nocomp=false", "--smux 1", "compresses its stream: give --compress, or kcptun --nocomp"),
        ("", "--smux 1 --compress", "does not compress its stream: leave --compress out"),
    ],
)
def test_the_compression_of_a_client_is_named(
    tunnel: str,
    smux: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with client("source", *tunnel.split()) as (address, _):
        words = ("--listen", address, *smux.split(), "--idle-timeout", "4", *ENVELOPE)
        assert sentence in failed(capsys, *words)
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_the_settings_of_a_tunnel_from_which_nothing_comes_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server(Target("source").port, "--nocomp=false") as address:
        assert main(["kcp-peer", address, "-R", "--smux", "1", "-t", "1", *ENVELOPE]) == 1
    doubt = "does the program behind kcptun send, and does kcptun have --nocomp (else give --compress)"
    assert doubt in capsys.readouterr().err


def test_payload_that_came_compressed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The program before the tunnel sends zeros."""
    with client("source", "--nocomp=false") as (address, _):
        words = ("--listen", address, "--smux", "1", "--compress", "--silence", "1", *ENVELOPE)
        assert main(["kcp-peer", *words]) == 0
    assert f"payload before compression: {TOTAL:,} bytes arrived as 1" in capsys.readouterr().err
