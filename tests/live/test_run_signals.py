"""Signals to the command at either end: the peer learns of it, and measured intervals are kept."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE
from typing import IO, Any

import pytest

from tests.interop.free_port import free_port
from tests.warm_program import WarmProgram

pytestmark = pytest.mark.live

SECOND_ROW = r"^\[ +1\] +0\.[1-9]\d*-"
"""Row of the second interval; its exact start depends on the load of the machine."""


class Program:
    """A running process of iperfpy."""

    def __init__(self, *arguments: str) -> None:
        self.process = WarmProgram(arguments, stdout=PIPE, stderr=PIPE)

    def wait_for(self, pattern: str, seconds: float = 15) -> re.Match[str]:
        """Read lines of standard output until one matches."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = stream_of(self.process.stdout).readline()
            found = re.search(pattern, line)
            if found:
                return found
            assert line or self.process.poll() is None, self.process.communicate()
        raise AssertionError(f"no line with {pattern!r}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> tuple[int, str, str]:
        """Return the exit status, the rest of standard output, and standard error."""
        output, errors = self.process.communicate(timeout=15)
        return self.process.wait(), output, errors


def stream_of(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def running(*arguments: str) -> Iterator[Program]:
    program = Program(*arguments)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.communicate()


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[Program, str]]:
    """Run a server on a free port, and yield it with the port."""
    port = str(free_port())
    with running("-s", "-p", port, "-B", "127.0.0.1", *arguments) as server:
        server.wait_for(f"listening on {port}")
        yield server, port


def client_of(port: str, *arguments: str) -> tuple[str, ...]:
    return ("-c", "127.0.0.1", "-p", port, "-t", "30", "-i", "0.2", "-b", "20M", *arguments)


def bytes_in(document: dict[str, Any], key: str) -> int:
    return int(document["end"][key]["bytes"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("proto", ["tcp", "kcp-bbr"])
def test_a_stopped_client_reports_and_informs_the_server(number: signal.Signals, proto: str) -> None:
    with serving() as (server, port), running(*client_of(port, "--proto", proto)) as client:
        client.wait_for(SECOND_ROW)
        client.send(number)
        status, output, errors = client.finish()
        assert status == 0
        assert re.search(r"sender\n", output)
        assert re.search(r"receiver\n", output)
        assert f"the client has terminated by signal {signal.strsignal(number)}({int(number)})" in errors
        server.wait_for(r"sender")
        server.send(signal.SIGINT)
        status, _, errors = server.finish()
        assert status == 0
        assert "the client has terminated" in errors


@pytest.mark.parametrize("direction", [(), ("-R",)])
@pytest.mark.parametrize("proto", ["tcp", "kcp"])
def test_a_stopped_server_informs_its_clients(proto: str, direction: tuple[str, ...]) -> None:
    with serving() as (server, port):
        arguments = client_of(port, "--proto", proto, "--json-stream", *direction)
        with running(*arguments) as client, running(*client_of(port)) as other:
            for _ in range(3):
                client.wait_for('"event":"interval"')
            other.wait_for(SECOND_ROW)
            server.send(signal.SIGINT)
            assert server.finish()[0] == 0
            status, output, errors = client.finish()
            assert status == 1
            assert other.finish()[0] == 1
        events = [json.loads(line) for line in output.splitlines()]
        # Without the server's results, the sums come from the interval figures.
        end = next(event["data"] for event in events if event["event"] == "end")
        assert end["sum_received"]["bytes"] > 0
        assert end["sum_sent"]["bytes"] > 0
        reasons = [event["data"] for event in events if event["event"] == "error"]
        assert len(reasons) == 1
        assert "the server has terminated" in reasons[0]
        assert errors == "" or "the server has terminated" in errors


def test_a_killed_client_leaves_the_server_serving() -> None:
    with serving() as (server, port):
        with running(*client_of(port)) as client:
            client.wait_for(SECOND_ROW)
            client.process.kill()
            server.wait_for(r"receiver")
        with running("-c", "127.0.0.1", "-p", port, "-n", "1M") as client:
            assert client.finish()[0] == 0


def test_a_killed_server_leaves_the_client_with_its_report() -> None:
    with serving() as (server, port), running(*client_of(port, "-R")) as client:
        client.wait_for(SECOND_ROW)
        server.process.kill()
        status, output, errors = client.finish()
        assert status == 1
        assert "receiver" in output
        assert len(errors.strip().splitlines()) == 1


def test_an_idle_server_stops() -> None:
    with serving() as (server, _):
        server.send(signal.SIGTERM)
        assert server.finish()[0] == 0
