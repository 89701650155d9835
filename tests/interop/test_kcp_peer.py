"""`iperfpy kcp-peer` against the endpoint over kcp-go of the examples, and through kcptun, in both roles."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from iperfpy.cli.main import main
from tests.interop.conftest import kcp_go, peer
from tests.interop.envelope_exchange import Case, kcptun
from tests.interop.free_port import free_port
from tests.open_ports import open_ports
from tests.studies.speed.programs import built_kcp_peer

pytestmark = [pytest.mark.interop, pytest.mark.live]

KEY = "a secret of this test"
ENVELOPE = ("--kcp-fec", "10:3", "--kcp-crypt", "aes", "--kcp-key", KEY)
GO_ENVELOPE = ("-ds", "10", "-ps", "3", "-crypt", "aes", "-key", KEY)
LONG_S = 60.0


@pytest.fixture(scope="module")
def program() -> str:
    kcp_go()
    return built_kcp_peer()


@contextlib.contextmanager
def endpoint(program: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The program over kcp-go; it prints a line of JSON when its one session is over."""
    process = subprocess.Popen(
        [program, *flags, "-once", "-silence", "2s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def listening(program: str, *flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The program, listening; its address, and its process."""
    address = f"127.0.0.1:{free_port()}"
    with endpoint(program, "-listen", address, *flags) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening")
        yield address, process


@dataclass
class Dialled:
    """The program that dials an end of this process, once that end listens: kcp-go gives up reading when its
    first datagram is refused."""

    program: str
    port: int
    flags: tuple[str, ...]
    output: str = ""

    def run(self) -> None:
        ends = time.monotonic() + LONG_S
        while self.port not in open_ports("udp") and time.monotonic() < ends:
            time.sleep(0.02)
        with endpoint(self.program, "-dial", f"127.0.0.1:{self.port}", *self.flags) as process:
            self.output, _ = process.communicate(timeout=LONG_S)


@contextlib.contextmanager
def dialling(program: str, *flags: str) -> Iterator[tuple[str, Dialled]]:
    """The address to listen on, and the program that will dial it; with the context, it has ended."""
    dialled = Dialled(program, free_port(), flags)
    thread = threading.Thread(target=dialled.run, daemon=True)
    thread.start()
    yield f"127.0.0.1:{dialled.port}", dialled
    thread.join(LONG_S)


def counted(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line of JSON of a program that ends."""
    output, errors = process.communicate(timeout=LONG_S)
    assert output, errors
    found: dict[str, Any] = json.loads(output)
    return found


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The document of a run of `kcp-peer` in this process."""
    capsys.readouterr()
    status = main(["kcp-peer", *words, "--idle-timeout", "20", "-J"])
    output = capsys.readouterr()
    assert status == 0, output.err
    document: dict[str, Any] = json.loads(output.out)
    return document


@pytest.mark.parametrize("proto", ["kcp", "kcp-bbr"])
def test_a_sink_over_kcp_go_gets_what_was_acknowledged(
    program: str, proto: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(program, *GO_ENVELOPE) as (address, process):
        found = measured(capsys, address, "-n", "300K", "--proto", proto, *ENVELOPE)
        assert counted(process)["bytes_read"] == 300 << 10
    sent = found["end"]["sum_sent"]
    assert sent["bytes"] == 300 << 10
    assert sent["rtt_us"]
    assert "sum_received" not in found["end"]


@pytest.mark.parametrize("proto", ["kcp", "kcp-bbr"])
def test_a_source_over_kcp_go_is_received(
    program: str, proto: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(program, "-mode", "source", *GO_ENVELOPE) as (address, _):
        found = measured(capsys, address, "-R", "-n", "300K", "--proto", proto, *ENVELOPE)
    assert found["end"]["sum_received"]["bytes"] >= 300 << 10
    assert "sum_sent" not in found["end"]


def test_an_echo_over_kcp_go_returns_bulk_data_and_messages(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(program, "-mode", "echo") as (address, _):
        found = measured(capsys, address, "--echo", "-n", "300K")
    assert found["end"]["sum_sent"]["bytes"] == 300 << 10
    assert found["end"]["sum_received_bidir_reverse"]["bytes"] == 300 << 10
    with listening(program, "-mode", "echo", *GO_ENVELOPE) as (address, _):
        found = measured(capsys, address, "--echo", "--rate", "50", "-t", "1", *ENVELOPE)
    assert found["end"]["messages"]["answered"] == 50


def test_a_sender_over_kcp_go_dials_a_sink(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with dialling(program, "-seconds", "1", *GO_ENVELOPE) as (address, dialled):
        found = measured(capsys, "--listen", address, "--silence", "2", *ENVELOPE)
    assert 0 < found["end"]["sum_received"]["bytes"] <= json.loads(dialled.output)["bytes_written"]
    assert found["start"]["accepted_connection"]["host"] == "127.0.0.1"


def test_a_reader_over_kcp_go_dials_a_source(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One byte asks for the data: the source's answer is no longer, until the address is proven."""
    with dialling(program, "-mode", "sink", *GO_ENVELOPE) as (address, dialled):
        found = measured(capsys, "--listen", address, "-R", "-n", "300K", *ENVELOPE)
    # The byte by which the address was proven is no payload.
    assert json.loads(dialled.output)["bytes_read"] == (300 << 10) + 1
    assert found["end"]["sum_sent"]["bytes"] == 300 << 10


def test_another_key_of_kcp_go_is_named(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--kcp-crypt", "aes", "--kcp-key", KEY, "--idle-timeout", "4", "-J"]
    with dialling(program, "-seconds", "3", "-crypt", "aes", "-key", "another one") as (address, _):
        assert main(["kcp-peer", "--listen", address, *words]) == 1
    sentence = json.loads(capsys.readouterr().out)["error"]
    assert "nothing that arrives can be decrypted: is the key (--kcp-key) the same" in sentence


def test_a_test_over_tcp_passes_through_kcptun() -> None:
    """The way to measure kcptun: a client's TCP connections go through the tunnel, to a server behind it."""
    for name in ("kcptun-server", "kcptun-client"):
        peer(name)
    server_port, tunnel, local = free_port(), free_port(), free_port()
    iperfpy = (sys.executable, "-m", "iperfpy")
    case = Case("kcptun", sends=True, crypt="aes", fec="10:3")
    listens = ("--listen", f"127.0.0.1:{tunnel}", "--target", f"127.0.0.1:{server_port}")
    dials = ("--localaddr", f"127.0.0.1:{local}", "--remoteaddr", f"127.0.0.1:{tunnel}")
    server = subprocess.Popen([*iperfpy, "-s", "-1", "-p", str(server_port)], stdout=subprocess.DEVNULL)
    try:
        with kcptun(case, "kcptun-server", *listens), kcptun(case, "kcptun-client", *dials):
            words = (*iperfpy, "-c", "127.0.0.1", "-p", str(local), "-n", "300K", "-J", "--no-probes")
            for attempt in range(20):
                done = subprocess.run(words, capture_output=True, text=True, timeout=LONG_S, check=False)
                if not done.returncode:
                    break
                time.sleep(0.2 * attempt)
        document = json.loads(done.stdout)
    finally:
        server.kill()
        server.wait()
    assert "error" not in document
    assert document["end"]["sum_received"]["bytes"] == 300 << 10
