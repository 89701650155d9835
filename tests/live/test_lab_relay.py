"""`iperfpy lab --relay`: datagrams meet the path, the control connection passes untouched."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.main import main
from iperfpy.lab.datagram_relay import overflows
from tests.live.test_lab import ME
from tests.warm_program import local_server

pytestmark = pytest.mark.live

CLIENT = f"exec {sys.executable} -m iperfpy -c $LAB_FAR -p $LAB_PORT -J -n 480K -b 4M --proto "
PATH = "20M,delay=20ms,loss=5"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with local_server() as local:
        yield f"127.0.0.1:{local.port}"


def counters(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


@pytest.mark.parametrize("transport", ["kcp", "kcp-bbr", "udp"])
def test_datagrams_meet_the_path(transport: str, server: str) -> None:
    done = ME.runs(PATH, "--json", "--relay", server, "--", "sh", "-c", CLIENT + transport)
    assert done.returncode == 0, done.stderr
    counts, document = counters(done), json.loads(done.stdout)
    there = counts["near_to_far"]
    assert there["sent"] > 300
    assert 0 < there["lost"] < 0.12 * there["sent"]
    # 28 bytes of headers around each payload
    assert 1_000 < there["sent_bytes"] / there["sent"] <= 1_500
    assert counts["far_to_near"]["delivered"] > 0
    sender = document["end"]["streams"][0]
    # Its control connection ends at the relay, and is not delayed.
    assert document["end"]["latency"]["idle_rtt_us"] >= 40_000
    if transport == "udp":
        # The last datagrams may still be on their way, and a busy machine may drop one at a socket.
        assert sender["udp"]["lost_packets"] <= there["sent"] - there["delivered"] + 5
        assert sender["sender"]["rtt_us_min"] >= 40_000
    else:
        assert sender["sender"]["min_rtt"] >= 40_000


def test_probes_that_do_not_pass_the_path_give_no_responsiveness(server: str) -> None:
    """The foreign probes are connections, and end at the relay."""
    client = CLIENT.replace("-n 480K -b 4M", "-t 1") + "kcp-bbr"
    done = ME.runs("20M,delay=20ms", "--relay", server, "--", "sh", "-c", client)
    latency = json.loads(done.stdout)["end"]["latency"]
    assert latency["idle_rtt_us"] >= 40_000
    assert latency["responsiveness_rpm"] is None
    assert not latency["foreign_probes"]


def test_tcp_passes_untouched(server: str) -> None:
    command = ("sh", "-c", CLIENT + "tcp")
    done = ME.runs(f"{PATH},outage=1", "--json", "--relay", server, "--", *command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] > 0
    assert counters(done)["near_to_far"]["delivered"] == 0


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--", "no-such-program"], 127),
        (["--", "/etc/passwd"], 126),
        (["--", "sh", "-c", "exit 7"], 7),
        (["--", "sh", "-c", "kill -9 $$"], 137),
        (["-t", "0.2", "--", "sleep", "1000"], 124),
        (["-t", "0.2", "--", "sh", "-c", "trap '' TERM; exec sleep 1000"], 124),
        (["-t", "0.2"], 0),
    ],
)
def test_the_status_is_that_of_the_command(words: list[str], status: int, server: str) -> None:
    assert ME.runs(PATH, "--relay", server, *words).returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_relay_without_a_command_ends_with_its_counters(number: int, server: str) -> None:
    with subprocess.Popen(
        ME.lab(PATH, "--relay", server, "--listen", "0"), stderr=subprocess.PIPE, text=True
    ) as relay:
        assert relay.stderr is not None
        port = int(relay.stderr.readline().rsplit(maxsplit=1)[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"lost on the way, or not", ("127.0.0.1", port))
        # The port is taken in both protocols.
        refused = ME.runs(PATH, "--relay", server, "--listen", str(port))
        relay.send_signal(number)
        text = relay.stderr.read()
    assert relay.returncode == 0
    assert "  near to far: 1 packet, " in text
    assert (refused.returncode, refused.stderr) == (1, "iperfpy: error - cannot listen: the port is in use\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--relay", "127.0.0.1"], "'127.0.0.1' is no address such as 192.0.2.7:5201 (--relay)"),
        (["--relay", ":70000"], "':70000' is no address such as 192.0.2.7:5201 (--relay)"),
        (["--relay", "h:1", "--server", "x"], "--server runs at the far end, which --relay does not have: "),
        (["--listen", "1"], "--listen is the address of a relay: give --relay HOST:PORT"),
        ([], "a path and a command are needed: iperfpy lab [options] PATH -- COMMAND [ARGUMENT...]"),
    ],
)
def test_wrong_words_are_one_sentence(words: list[str], sentence: str) -> None:
    done = ME.runs(PATH, *words, *(["--", "true"] if "--listen" in words else []))
    assert done.returncode == 1
    assert done.stderr.startswith(f"iperfpy: parameter error - {sentence}")


def test_a_relay_needs_nothing_of_linux() -> None:
    script = "import sys; import iperfpy.lab.relay_session; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "iperfpy.lab.datagram_relay" in loaded
    assert not {"iperfpy.lab.linux_calls", "iperfpy.lab.world", "iperfpy.lab.keeper"} & set(loaded)


def test_namespaces_need_linux(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("iperfpy.cli.commands.lab_run.LINUX", False)
    assert main(["lab", PATH, "--", "true"]) == 1
    sentence = "network namespaces need Linux; for UDP, --relay HOST:PORT needs no namespaces"
    assert capsys.readouterr().err == f"iperfpy: error - {sentence}\n"


def test_overflows_are_those_of_the_own_sockets(tmp_path: Path) -> None:
    row = "{}: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 {} 2 0000 {}\n"
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "udp").write_text("headings\n" + row.format(1, 77, 5) + row.format(2, 78, 9))
    assert overflows({77}, tmp_path) == 5
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        sock.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(bytes(1_000), sock.getsockname())
        assert 0 < overflows({os.fstat(sock.fileno()).st_ino}) < 100
