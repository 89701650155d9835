"""`iperfpy lab` with real programs in real namespaces, as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from iperfpy.protocols.simulator import Link
from iperfpy.protocols.simulator.inbox import Inbox
from iperfpy.protocols.simulator.path_language import parse
from iperfpy.protocols.simulator.truth import Truth
from tests.warm_program import run_warm

pytestmark = [pytest.mark.live, pytest.mark.linux, pytest.mark.long]

ROOT = Path(__file__).parents[2]
PACKAGES = str(Path(click.__file__).parents[1])
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(ROOT), PACKAGES)),
    "PYTHONDONTWRITEBYTECODE": "1",
}
NOBODY = 65_534
PATIENCE_S = 60.0


@dataclass(frozen=True)
class User:
    """A user of the system, as which a lab is run.

    python : an interpreter that the user can execute
    identity : arguments of `subprocess`
    """

    python: str = sys.executable
    identity: dict[str, Any] = field(default_factory=dict)

    def lab(self, *words: str) -> list[str]:
        return [self.python, "-m", "iperfpy", "lab", *words]

    def runs(self, *words: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
        user = self.identity.get("user", 0)
        return run_warm(["lab", *words], cwd="/", env=ENVIRONMENT, timeout=PATIENCE_S, user=user, **arguments)

    def script(self, text: str) -> tuple[str, ...]:
        """The words of a program of Python."""
        return (self.python, "-c", text)

    def server(self, text: str) -> str:
        """The line of a shell that runs a program of Python."""
        return "exec " + shlex.join(self.script(text))


ME = User()


def ordinary() -> User | None:
    """An ordinary user; None if no interpreter of this version lets such a user in."""
    if os.geteuid():
        return ME
    identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with contextlib.suppress(OSError):
            user = User(python, identity)
            command = user.script("import click, numpy, rich")
            if not subprocess.run(command, cwd="/", env=ENVIRONMENT, check=False, **identity).returncode:
                return user
    return None


@pytest.fixture(params=["root", "ordinary"], scope="module")
def user(request: pytest.FixtureRequest) -> User:
    """A user with the rights for a lab. Skips, with the reason, if system or interpreter forbids it."""
    if request.param == "root" and os.geteuid():
        pytest.skip("this is not root")
    found = ME if request.param == "root" else ordinary()
    if found is None:
        pytest.skip("no interpreter that an ordinary user can execute")
    return able(found)


@pytest.fixture(scope="module")
def me() -> User:
    """The user of the tests, with the rights for a lab."""
    return able(ME)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which every user may write: that of pytest is for its own user only."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def able(user: User) -> User:
    probe = user.runs("1M", "--", "true")
    if "this system" in probe.stderr:
        pytest.skip(probe.stderr.strip())
    assert probe.returncode == 0, probe.stderr
    return user


ECHO = """
import os, socket, threading
def serve(sock):
    while True:
        peer, address = sock.accept()
        with peer:
            while data := peer.recv(65536):
                peer.sendall(address[0].encode() if data == b"who" else data)
for address in (os.environ["LAB_FAR"], os.environ["LAB_FAR6"]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.create_server((address, 7), family=family)
    threading.Thread(target=serve, args=(sock,)).start()
"""
ASK = """
import os, socket, time
for address in (os.environ["LAB_FAR"], os.environ["LAB_FAR6"]):
    begun = time.monotonic()
    with socket.create_connection((address, 7)) as sock:
        connected = time.monotonic() - begun
        sock.sendall(b"who")
        print(sock.recv(100).decode(), connected >= 0.04)
"""
FILL = """
import os, socket
with socket.create_connection((os.environ["LAB_FAR"], 7)) as sock:
    for _ in range(20):
        sock.sendall(bytes(50000))
        left = 50000
        while left:
            left -= len(sock.recv(left))
"""
COLLECT = """
import os, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sock.bind((os.environ["LAB_FAR"], 9))
seen = []
while (data := sock.recv(2000)[:8]) != bytes(8):
    seen.append(int.from_bytes(data, "big") - 1)
print(*seen, flush=True)
"""
SCATTER = """
import os, socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(1000):
    sock.sendto((number + 1).to_bytes(8, "big").ljust(472), (os.environ["LAB_FAR"], 9))
    time.sleep(0.0002)
for _ in range(50):
    sock.sendto(bytes(8), (os.environ["LAB_FAR"], 9))
    time.sleep(0.001)
"""


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return found


# -- the path


def test_a_key_in_the_line_of_the_server_is_not_among_the_arguments_of_its_shell(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    line = f"tr '\\0' ' ' < /proc/$$/cmdline > {seen};"
    line += f" echo \"<$LAB_SERVER>\" --kcp-key 'a secret of ours' >> {seen}; {ME.server(ECHO)}"
    done = ME.runs("20M,delay=20ms", "--server", line, "--", *ME.script(ASK))
    assert done.returncode == 0, done.stderr
    arguments, _, used = seen.read_text().partition("<")
    assert "secret" not in arguments
    assert used == "> --kcp-key a secret of ours\n"


def test_both_ends_have_their_addresses_and_the_delay_between_them(user: User) -> None:
    done = user.runs("20M,delay=20ms", "--server", user.server(ECHO), "--", *user.script(ASK))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["10.77.0.1 True", "fd77::1 True"]


def test_the_nth_packet_meets_the_fate_of_the_nth_datagram_in_the_simulator(
    user: User, open_folder: Path
) -> None:
    text, total = "loss=5,ge=1/20", 1_000
    output = open_folder / "seen"
    words = ("--seed", "5", "--json", "--server-output", str(output), "--server", user.server(COLLECT), text)
    done = user.runs(*words, "--", *user.script(SCATTER))
    assert done.returncode == 0, done.stderr
    link, truth, inbox = Link(parse(text)[0], np.random.SeedSequence(5).spawn(1)[0]), Truth(), Inbox(0.0)
    rows = np.arange(total).reshape(total, 1).astype(np.int64).view(np.uint8)
    link.carry_rows(0.0, rows, inbox, truth, 0.0)
    expected = [number for _, part in inbox.take_rows(1.0) for number in part.copy().view(np.int64)[:, 0]]
    assert list(map(int, output.read_text().split())) == expected
    counts = report(done)["near_to_far"]
    assert counts["sent"] == total + 50
    assert counts["sent_bytes"] == total * 500 + 50 * 36
    assert counts["lost"] >= total - len(expected) > 50


def test_no_packet_is_longer_than_the_mtu(user: User) -> None:
    """TCP would hand the device 64 KiB at once, which the path would carry as one packet."""
    done = user.runs("--json", "100M", "--server", user.server(ECHO), "--", *user.script(FILL))
    assert done.returncode == 0, done.stderr
    counts = report(done)["near_to_far"]
    assert counts["sent"] >= 1e6 / 1_460
    assert counts["sent_bytes"] / counts["sent"] <= 1_500


def test_jumbo_packets_pass_if_the_path_says_so(user: User) -> None:
    for path, mtu in (("100M,maxlen=9000", "9000"), ("100M,maxlen=1280", "1500")):
        done = user.runs(path, "--", *user.script(MTU))
        assert done.stdout.split() == [mtu], done.stderr
    done = user.runs("100M,maxlen=9000", "--server", user.server(ECHO), "--", *user.script(FILL))
    assert done.returncode == 0, done.stderr


MTU = """
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    answer = fcntl.ioctl(sock, 0x8921, b"lab0".ljust(40, bytes(1)))
print(struct.unpack_from("i", answer, 16)[0])
"""


def test_every_congestion_control_of_the_kernel_can_be_used(user: User) -> None:
    """Some of them are reserved for root outside."""
    ask = """
import socket
names = open("/proc/sys/net/ipv4/tcp_available_congestion_control").read().split()
for name in names:
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
print(len(names) > 0)
"""
    done = user.runs("100M", "--", *user.script(ask))
    assert done.stdout == "True\n", done.stderr


# -- the command


def test_standard_streams_pass_through(user: User) -> None:
    done = user.runs("20M", "--", "sh", "-c", "cat; echo warned >&2; id -u", input="some words\n")
    assert done.stdout == f"some words\n{user.identity.get('user', os.geteuid())}\n"
    assert done.stderr.startswith("warned\nlab: 20M, seed 1, ")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["no-such-program"], 127, "iperfpy: error - no-such-program: command not found\n"),
        (["/etc/passwd"], 126, "iperfpy: error - /etc/passwd: Permission denied\n"),
    ],
)
def test_the_status_is_that_of_the_command(me: User, words: list[str], status: int, sentence: str) -> None:
    done = me.runs("20M", "--", *words)
    assert done.returncode == status
    assert done.stderr.startswith(sentence)


@pytest.mark.parametrize("command", ["sleep 1000", "trap '' TERM; sleep 1000"])
def test_a_command_that_hangs_is_ended_by_the_timeout(me: User, command: str) -> None:
    assert me.runs("-t", "0.3", "20M", "--", "sh", "-c", command).returncode == 124


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--server", "echo no >&2; exit 3"], "the server ended with status 3 before it listened: no"),
        (
            ["--server", "sleep 1000", "--server-wait", "0.2"],
            "the server has no listening TCP socket and no bound UDP socket after 0.2 s",
        ),
    ],
)
def test_a_server_that_does_not_listen_is_said(me: User, options: list[str], sentence: str) -> None:
    done = me.runs(*options, "20M", "--", "echo", "started")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"iperfpy: error - {sentence}\n"


# -- the end


MARK = "LAB_TEST_MARK"


def marked(mark: str) -> list[int]:
    """Processes with this mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def until_marked(mark: str, least: int) -> None:
    """Wait for so many processes: one that has just forked has no environment until its program is loaded."""
    deadline = time.monotonic() + PATIENCE_S
    while len(marked(mark)) < least:
        assert time.monotonic() < deadline, marked(mark)
        time.sleep(0.01)


def networks() -> set[int]:
    """Network namespaces that some process is in."""
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            found.add((folder / "ns" / "net").stat().st_ino)
    return found


@contextlib.contextmanager
def running(user: User, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A lab with a command that has printed a line; everything of it is gone after the block."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    environment = ENVIRONMENT | {MARK: mark}
    with subprocess.Popen(
        user.lab(*words),
        cwd="/",
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **user.identity,
    ) as lab:
        try:
            assert lab.stdout is not None
            assert lab.stdout.readline(), lab.stderr and lab.stderr.read()
            inside = {network for process in marked(mark) for network in network_of(process)}
            yield lab, mark
            lab.wait(PATIENCE_S)
        finally:
            lab.kill()
    deadline = time.monotonic() + PATIENCE_S
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left
    own = Path("/proc/self/ns/net").stat().st_ino
    assert len(inside - {own}) >= 2
    assert not (inside - {own}) & networks()


def network_of(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [Path(f"/proc/{process}/ns/net").stat().st_ino]
    return []


HUSH = "setsid sleep 1000 & echo up; exec sleep 1000"


def test_everything_is_gone_after_a_kill_of_the_lab(user: User) -> None:
    with running(user, "20M", "--server", user.server(ECHO), "--", "sh", "-c", HUSH) as (lab, mark):
        until_marked(mark, 5)
        lab.kill()


def test_everything_is_gone_after_a_kill_of_the_command(user: User) -> None:
    script = "setsid sleep 1000 & echo up; read answer; kill -9 $$"
    with running(user, "20M", "--server", user.server(ECHO), "--", "sh", "-c", script) as (lab, _):
        assert lab.stdin is not None
        print("go", file=lab.stdin, flush=True)
        assert lab.wait(PATIENCE_S) == 137


def test_everything_is_gone_after_a_kill_of_the_keeper(user: User) -> None:
    with running(user, "20M", "--server", user.server(ECHO), "--", "sh", "-c", HUSH) as (lab, mark):
        (keeper,) = (one for one in marked(mark) if parent(one) == lab.pid)
        os.kill(keeper, signal.SIGKILL)
        assert lab.wait(PATIENCE_S) == 137


def parent(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_of_another_process_reaches_the_command(me: User, number: signal.Signals) -> None:
    with running(me, "20M", "--server", me.server(ECHO), "--", "sh", "-c", HUSH) as (lab, _):
        lab.send_signal(number)
        assert lab.wait(PATIENCE_S) == 128 + number


def test_a_signal_during_the_wait_for_the_server_ends_the_run(me: User) -> None:
    command = me.lab("20M", "--server", "sleep 1000", "--", "true")
    with subprocess.Popen(command, cwd="/", env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as lab:
        wait_for_child_of(lab.pid)
        lab.terminate()
        _, said = lab.communicate(timeout=PATIENCE_S)
    assert lab.returncode == 143
    assert said == "iperfpy: error - stopped by SIGTERM\n"


SIGNAL_AT_THE_FORK = """
import os, signal, sys
fork = os.fork
def fork_and_signal():
    process = fork()
    if process:
        os.kill(os.getpid(), signal.SIGTERM)
    return process
os.fork = fork_and_signal
from iperfpy.cli.main import main
sys.exit(main())
"""


def test_a_signal_that_comes_as_soon_as_there_is_a_child_ends_the_run_as_a_later_one(me: User) -> None:
    command = [*me.script(SIGNAL_AT_THE_FORK), "lab", "20M", "--server", "sleep 1000", "--", "true"]
    done = subprocess.run(
        command, cwd="/", env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (143, "iperfpy: error - stopped by SIGTERM\n")


def wait_for_child_of(process: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/task/{children[0]}/children").read_text().split():
            return
        time.sleep(0.01)
    raise AssertionError("the server did not start")


def test_a_terminals_ctrl_c_reaches_the_command_once_and_the_server_not(me: User) -> None:
    """The command then needs its server for its last words."""
    last_words = ASK.replace("0.04", "0")
    command = f"""
import signal, sys, time
caught = []
signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
print("up", flush=True)
while not caught:
    time.sleep(0.01)
time.sleep(0.2)
print("caught", len(caught), flush=True)
{last_words}
sys.exit(5)
"""
    process, terminal = pty.fork()
    if not process:
        words = me.lab("20M", "--server", me.server(ECHO), "--", *me.script(command))
        os.execve(words[0], words, ENVIRONMENT)
    text = ""
    with os.fdopen(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while "up" not in text:
            text += screen.read(1_000).decode()
        os.write(terminal, b"\x03")
        while part := screen.read(1_000):
            text += part.decode()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 5, text
    assert "caught 1\r\n10.77.0.1 True\r\nfd77::1 True\r\n" in text


# -- where it cannot be


def test_a_setting_that_forbids_namespaces_is_named(me: User) -> None:
    limited = "echo 0 > /proc/sys/user/max_net_namespaces; exec " + shlex.join(me.lab("20M", "--", "true"))
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", limited],
        cwd="/",
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if "unshare" in done.stderr or "cannot create" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1
    assert done.stderr == (
        "iperfpy: error - this system forbids namespaces by the setting user.max_net_namespaces = 0; an "
        "administrator allows them by sudo sysctl -w user.max_net_namespaces=10000; for UDP, --relay "
        "HOST:PORT needs no namespaces\n"
    )


def test_a_path_that_cannot_be_starts_nothing(me: User, tmp_path: Path) -> None:
    done = me.runs("20M,delay=2m", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 1
    assert done.stderr == (
        "iperfpy: parameter error - delay=2m: delay is a time such as 85ms, from 0 to 60s (a bare number is "
        "in ms)\n"
    )
    assert not (tmp_path / "ran").exists()


# -- logs


def test_the_logs_are_those_of_mahimahi_and_count_what_the_report_counts(
    user: User, open_folder: Path
) -> None:
    up, down = open_folder / "up.log", open_folder / "down.log"
    words = ("--json", "--log-up", str(up), "--log-down", str(down), "trace=constant:12M,queue=9p down:1M")
    done = user.runs(*words, "--server", user.server(COLLECT), "--", *user.script(SCATTER))
    assert done.returncode == 0, done.stderr
    for file, name, queue in ((up, "near_to_far", "[packets=9]"), (down, "far_to_near", "[packets=1000]")):
        lines, counts = file.read_text().splitlines(), report(done)[name]
        events = [line.split() for line in lines if not line.startswith("# ")]
        assert lines[2] == f"# queue: droptail {queue}"
        assert len([event for event in events if event[1] == "+"]) == counts["sent"]
        assert sum(int(event[2]) for event in events if event[1] == "d") == counts["overflowed"]


def test_a_log_that_cannot_be_written_is_said(me: User, tmp_path: Path) -> None:
    done = me.runs("20M", "--log-up", str(tmp_path / "no" / "such"), "--", "echo", "begun")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot write the log: " in done.stderr
    done = me.runs("20M", "--log-down", "/dev/full", "--", "true")
    assert done.returncode == 0
    assert "a log is not complete: No space left on device" in done.stderr


def test_a_report_on_a_full_disk_keeps_the_status_of_the_command(me: User) -> None:
    done = me.runs("20M", "--report", "/dev/full", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert "the report is not complete: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
