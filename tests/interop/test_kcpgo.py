"""Our engine against kcp-go over loopback, as client and as server, with forward error correction and
encryption. `python -m tests.studies.envelope` runs the whole table. A newer kcp-go than Debian's has
AES-GCM and out-of-band datagrams, too: IPERFPY_KCPGO names a folder with programs over one
(tests/README.md)."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.main import main
from tests.interop.conftest import kcp_go, newer_kcp_go
from tests.interop.envelope_exchange import SECRET, Case, run
from tests.interop.free_port import free_port
from tests.open_ports import open_ports
from tests.studies.speed.processes import RunError
from tests.studies.speed.programs import GO_PROGRAMS, built_go, built_kcpgo, kcpgo_library

pytestmark = [pytest.mark.interop, pytest.mark.live]

CASES = (
    Case("kcp-go", sends=True, fec="10:3", loss=0.02),
    Case("kcp-go", sends=False, fec="10:3", loss=0.02),
    Case("kcp-go", sends=True, crypt="aes", fec="4:2", loss=0.02, recovery="stock"),
    Case("kcp-go", sends=False, crypt="aes", fec="10:3", loss=0.02, recovery="stock"),
    Case("kcp-go", sends=True, fec="auto", loss=0.02),
    Case("kcp-go", sends=False, fec="4:2", loss=0.02, peer_fec="10:3"),
    Case("kcp-go", sends=True, crypt="xor"),
    Case("kcp-go", sends=False, crypt="salsa20"),
)


NEWER = (
    Case("kcp-go", sends=True, crypt="aes-128-gcm", fec="10:3", loss=0.02, oob_ms=2),
    Case("kcp-go", sends=False, crypt="aes-128-gcm", fec="10:3", loss=0.02, oob_ms=2),
    Case("kcp-go", sends=True, crypt="aes-128-gcm"),
    Case("kcp-go", sends=False, fec="10:3", oob_ms=2),
    Case("kcp-go", sends=True, crypt="aes", fec="4:2", oob_ms=2),
)
"""Cases of a newer kcp-go than Debian's."""
PATIENCE_S = 60.0


def name_of(case: Case) -> str:
    return f"{case.crypt}-{case.fec}-{case.peer_fec}-{case.sends}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_kcp_go_exchanges_data_in_an_envelope(case: Case) -> None:
    """Some is lost on the way: both ends restore it, and neither notices."""
    kcp_go()
    outcome = run(case)
    assert outcome.exact
    assert outcome.rejected == 0
    if case.loss and case.sends:
        assert outcome.theirs
    elif case.loss:
        assert outcome.recovered


@pytest.mark.parametrize("case", NEWER, ids=name_of)
def test_a_newer_kcp_go_exchanges_data(case: Case) -> None:
    """Its out-of-band datagrams, of all lengths, are counted and disturb nothing."""
    newer_kcp_go()
    outcome = run(case)
    assert outcome.exact
    assert outcome.rejected == 0
    assert bool(outcome.out_of_band) == bool(case.oob_ms)


ENVELOPE = ("-crypt", "aes-128-gcm", "-key", SECRET, "-ds", "10", "-ps", "3", "-oob", "2ms")
OURS = ("--kcp-crypt", "aes-128-gcm", "--kcp-key", SECRET, "--kcp-fec", "10:3", "--idle-timeout", "20", "-J")
SIZE = 300 << 10


@contextmanager
def kcpgo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program, which moves SIZE bytes and ends when its standard input is closed."""
    words = [built_kcpgo(), "-bytes", str(SIZE), *ENVELOPE, *arguments]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The document of a run of `kcp-peer` in this process."""
    capsys.readouterr()
    status = main(["kcp-peer", *words, *OURS])
    output = capsys.readouterr()
    assert status == 0, output.err
    document: dict[str, Any] = json.loads(output.out)
    return document


def test_kcp_peer_measures_a_newer_kcp_go(capsys: pytest.CaptureFixture[str]) -> None:
    newer_kcp_go()
    port = free_port()
    with kcpgo("-serve", "-address", f"127.0.0.1:{port}"):
        wait_for(port)
        found = measured(capsys, f"127.0.0.1:{port}", "-n", str(SIZE))
    assert found["end"]["sum_sent"]["bytes"] == SIZE


def test_an_out_of_band_datagram_may_be_the_first_of_a_newer_kcp_go(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It begins no stream; the data that follows does."""
    newer_kcp_go()
    port, over = free_port(), threading.Event()

    def dial() -> None:
        wait_for(port)
        with kcpgo("-address", f"127.0.0.1:{port}"):
            over.wait(PATIENCE_S)

    thread = threading.Thread(target=dial, daemon=True)
    thread.start()
    try:
        found = measured(capsys, "--listen", f"127.0.0.1:{port}", "-n", str(SIZE))
    finally:
        over.set()
        thread.join(PATIENCE_S)
    assert found["end"]["sum_received"]["bytes"] == SIZE


def wait_for(port: int) -> None:
    """Wait until a UDP socket has the port."""
    ends = time.monotonic() + PATIENCE_S
    while port not in open_ports("udp"):
        assert time.monotonic() < ends, "nothing listens"
        time.sleep(0.02)


def test_the_program_tells_its_library() -> None:
    kcp_go()
    library = kcpgo_library()
    assert "aes" in library.ciphers
    assert library.oob == ("aes-128-gcm" in library.ciphers)


def test_a_folder_without_the_programs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(GO_PROGRAMS, str(tmp_path))
    with pytest.raises(RunError, match=f"{GO_PROGRAMS} names {tmp_path}, which has no program kcpgo"):
        built_go.__wrapped__(Path("main.go"), "kcpgo")
