"""The real program, started in odd surroundings: closed descriptors, small limits, no folder to write to."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from iperfpy.control.framing import State, encode_state
from tests.interop.free_port import free_port
from tests.interop.programs import wait_until
from tests.open_ports import open_ports
from tests.warm_program import PATIENCE_S, WarmLocalServer, WarmProgram, local_server, run_warm

pytestmark = [pytest.mark.live, pytest.mark.long]

ROOT = Path(__file__).parents[2]
PROGRAM = f"{sys.executable} -m iperfpy"
SHORT = "-t 0.2 -b 5M"


@pytest.fixture(scope="module")
def server() -> Iterator[WarmLocalServer]:
    """A server beside the clients under test."""
    with local_server() as server:
        yield server


def shell(
    script: str, *, wrapper: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell from the root of the tree."""
    return subprocess.run(
        [*wrapper, "bash", "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(script: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server by a script of the shell that becomes the server, and wait until it listens."""
    with subprocess.Popen(
        ["bash", "-c", script], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as server:
        try:
            wait_until(lambda: port in open_ports(), "the server does not listen")
            yield server
        finally:
            server.kill()


def client_of(port: int) -> list[str]:
    """Words of a warm client, which has nothing to do with the surroundings of the server."""
    return ["-c", "127.0.0.1", "-p", str(port), *SHORT.split(), "-J"]


def can(*wrapper: str, script: str = "true") -> bool:
    """True if this machine runs the script in such a namespace."""
    return bool(shutil.which(wrapper[0])) and shell(script, wrapper=wrapper).returncode == 0


def received_bytes(output: str) -> int:
    document: Any = json.loads(output)
    assert "error" not in document
    return int(document["end"]["sum_received"]["bytes"])


# ---------------------------------------------------------------------- descriptors 0 to 2


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
@pytest.mark.parametrize("transport", ["tcp", "kcp"])
def test_a_client_measures_with_closed_descriptors(
    server: WarmLocalServer, closed: str, transport: str
) -> None:
    done = shell(f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} --proto {transport} -J {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert received_bytes(done.stdout) > 0


def test_a_client_measures_without_any_standard_descriptor(server: WarmLocalServer, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} --csv {path}"
    done = shell(f"{line} <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "summary" in path.read_text()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_server_serves_with_closed_descriptors(closed: str) -> None:
    port = free_port()
    with started(f"exec {PROGRAM} -s -1 -B 127.0.0.1 -p {port} 1>&2 {closed}", port) as server:
        done = run_warm([*client_of(port), "--proto", "kcp"])
        assert done.returncode == 0, done.stderr
        assert received_bytes(done.stdout) > 0
        assert server.wait(60) == 0


def test_an_error_never_goes_to_standard_output() -> None:
    done = shell(f"{PROGRAM} --no-such-flag 2>&-")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_title_that_the_encoding_lacks_is_printed_with_replacements(server: WarmLocalServer) -> None:
    line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} -T 'Größe'"
    done = shell(line, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Gr??e:  Connecting")


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [6, 9, 14])
def test_too_few_descriptors_for_any_test_are_an_error_with_its_cause(limit: int) -> None:
    done = shell(f"ulimit -n {limit}; exec {PROGRAM} -c 127.0.0.1 -p 1 -J")
    sentence = "this process may open no more files and sockets (see ulimit -n): it needs 16 and can have"
    assert done.returncode == 1
    assert done.stderr.startswith(f"iperfpy: error - {sentence}")
    assert json.loads(done.stdout)["error"].startswith(sentence)


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes(server: WarmLocalServer) -> None:
    line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} -P 16 -J"
    done = shell(f"ulimit -S -n 20; exec {line}")
    assert done.returncode == 0, done.stderr
    assert received_bytes(done.stdout) > 0


@pytest.mark.parametrize("limit", [20, 21])
@pytest.mark.parametrize("transport", ["tcp", "udp", "kcp"])
def test_a_client_without_descriptors_for_its_streams_says_so(
    server: WarmLocalServer, transport: str, limit: int
) -> None:
    line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} --proto {transport} -P 16 -J"
    done = shell(f"ulimit -n {limit}; exec {line}")
    assert done.returncode == 1
    assert "may open no more files and sockets (see ulimit -n)" in json.loads(done.stdout)["error"]


def test_a_server_without_descriptors_refuses_and_goes_on() -> None:
    port = free_port()
    with started(f"ulimit -n 24; exec {PROGRAM} -s -B 127.0.0.1 -p {port} >/dev/null 2>&1", port):
        refused = run_warm([*client_of(port), "-P", "16"])
        measured = run_warm(client_of(port))
    assert refused.returncode == 1
    assert "descriptors left" in json.loads(refused.stdout)["error"]
    assert measured.returncode == 0
    assert received_bytes(measured.stdout) > 0


def test_a_server_out_of_descriptors_refuses_connections_until_some_are_free() -> None:
    """accept() itself fails. Each client beyond the limit is refused at once instead of left waiting."""
    port, room, beyond = free_port(), 20, 4
    words = ["-s", "-B", "127.0.0.1", "-p", str(port)]
    with WarmProgram(words, stdout=DEVNULL, stderr=PIPE) as server, ExitStack() as clients:
        clients.callback(server.kill)
        wait_until(lambda: port in open_ports(), "the server does not listen")
        idle = open_descriptors(server.pid)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (max(idle) + 1 + room,) * 2)
        silent = [
            clients.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            for _ in range(room + beyond)
        ]
        assert [each.recv(2) for each in silent[-beyond:]] == [encode_state(State.ACCESS_DENIED)] * beyond
        for each in silent:
            each.close()
        few = len(idle) + room // 2
        wait_until(lambda: len(open_descriptors(server.pid)) < few, "the server kept the connections")
        done = run_warm(client_of(port))
        assert done.returncode == 0, done.stderr
        assert received_bytes(done.stdout) > 0
        server.terminate()
        _, log = server.communicate()
    sentence = "refusing new connections: this process may open no more files and sockets (see ulimit -n)"
    assert log.count(sentence) == 1, log


def open_descriptors(pid: int) -> list[int]:
    return [int(each) for each in os.listdir(f"/proc/{pid}/fd")]


NO_THREADS = "this process may start no more threads (see ulimit -u)"
USER = 64_321
"""Number of a user without other processes: the kernel counts threads by user, and does not limit root's."""


@pytest.mark.parametrize("limit", [3, 5, 6, 8])
def test_a_client_with_few_threads_measures_or_names_the_limit(server: WarmLocalServer, limit: int) -> None:
    if os.geteuid():
        pytest.skip("only root may start a program of another user")
    check_few_threads(run_warm([*client_of(server.port), "-P", "8"], user=USER, threads=limit))


@pytest.mark.parametrize("limit", [1, 2])
def test_a_client_with_too_few_threads_names_the_limit(server: WarmLocalServer, limit: int) -> None:
    if os.geteuid():
        pytest.skip("only root may start a program of another user")
    done = run_warm([*client_of(server.port), "-P", "8"], user=USER, threads=limit)
    assert done.returncode == 1
    check_few_threads(done)


def test_a_client_that_may_have_no_further_thread_names_the_limit(server: WarmLocalServer) -> None:
    """Also while its libraries are loaded."""
    group = Path("/sys/fs/cgroup/pids" if Path("/sys/fs/cgroup/pids").is_dir() else "/sys/fs/cgroup")
    group /= f"iperfpy-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"this machine allows no control groups: {error}")
    try:
        if not (group / "pids.max").exists():
            pytest.skip("the control groups of this machine limit no threads")
        (group / "pids.max").write_text("1")
        line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} -P 8 -J"
        done = shell(f"echo $$ >{group}/cgroup.procs && exec {line}")
    finally:
        group.rmdir()
    assert done.returncode == 1
    check_few_threads(done)


def check_few_threads(done: subprocess.CompletedProcess[str]) -> None:
    """The test was good, or its error and the only line on standard error name the limit."""
    if done.returncode == 0:
        assert done.stderr == ""
        assert received_bytes(done.stdout) > 0
        return
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("iperfpy: error - ")
    assert line.endswith(NO_THREADS)
    assert json.loads(done.stdout)["error"].endswith(NO_THREADS)


# ---------------------------------------------------------------------- folders, process number, links


def test_zero_copy_needs_no_temporary_folder(server: WarmLocalServer) -> None:
    # The folders that tempfile tries. The tree may be inside one of them, so they keep their contents.
    read_only = """for each in /tmp /var/tmp /usr/tmp; do
        ! test -d $each || { mount --bind $each $each && mount -o remount,bind,ro $each; } || exit
    done"""
    if not can("unshare", "-rm", script=read_only):
        pytest.skip("this machine has no mount namespaces")
    line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} -Z -J"
    # The current folder is the last one that would be tried; PYTHONPATH has the program.
    done = shell(f"{read_only}; cd /proc; TMPDIR=/proc exec {line}", wrapper=("unshare", "-rm"))
    assert done.returncode == 0, done.stderr
    assert received_bytes(done.stdout) > 0


def test_the_program_may_be_process_1(server: WarmLocalServer) -> None:
    wrapper = ("unshare", "-rpf", "--mount-proc")
    if not can(*wrapper):
        pytest.skip("this machine has no process namespaces")
    line = f"{PROGRAM} -c 127.0.0.1 -p {server.port} {SHORT} -J"
    done = shell(f"exec {line}", wrapper=wrapper)
    assert done.returncode == 0, done.stderr
    assert received_bytes(done.stdout) > 0


EACH_TRANSPORT = """
import sys
from iperfpy.cli.main import main
for transport in ("tcp", "udp", "kcp"):
    if status := main([*sys.argv[1:], "--proto", transport]):
        sys.exit(status)
"""


@pytest.mark.parametrize("bound", [True, False])
def test_a_link_local_address_keeps_its_scope(bound: bool) -> None:
    wrapper = ("unshare", "-rn")
    if not can(*wrapper, script="ip link add link0 type veth peer name link1"):
        pytest.skip("this machine has no network namespaces")
    server = "-B fe80::1%link0" if bound else ""
    client = "-c fe80::1%link0 -B fe80::1%link0" if bound else "-c fe80::1 --bind-dev link0"
    done = shell(
        f"""ip link add link0 type veth peer name link1 && ip link set lo up && ip link set link0 up
        ip link set link1 up; ip address add fe80::1/64 dev link0 nodad
        {PROGRAM} -s {server} >/dev/null & server=$!
        {sys.executable} -c '{EACH_TRANSPORT}' {client} {SHORT} -J
        status=$?; kill $server; wait $server; exit $status""",
        wrapper=wrapper,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    documents = done.stdout.replace("\n}\n{\n", "\n}\0{\n").split("\0")
    assert len(documents) == 3
    assert all(received_bytes(document) > 0 for document in documents)
