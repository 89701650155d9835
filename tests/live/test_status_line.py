"""The status line of a real client on a pseudo-terminal: through a test, a Ctrl-C, and a server that dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator

import pyte
import pytest

from tests.warm_program import WarmProgram, local_server

pytestmark = pytest.mark.live

PATIENCE_S = 30.0
COLUMNS, LINES = 80, 24


class Client:
    """A client with a terminal of 80 x 24 for its output and errors."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self._near, far = pty.openpty()
        self.resize(COLUMNS, LINES)
        base = {
            key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        variables = base | {"TERM": "xterm-256color"} | environment
        self.process = WarmProgram(arguments, stdin=far, stdout=far, stderr=far, env=variables)
        os.close(far)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """Read until the visible lines are as wanted, or all was read; returns them."""
        deadline = time.monotonic() + PATIENCE_S
        while not seen(self.visible()) and time.monotonic() < deadline:
            try:
                piece = os.read(self._near, 65_536)
            except OSError:  # Linux reports the hang-up of a terminal as EIO
                break
            self.written += piece
            self._stream.feed(piece)
        return self.visible()

    def visible(self) -> list[str]:
        """The visible lines that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def finish(self) -> tuple[int, str]:
        """Read to the end; returns the exit status, and everything that is on the terminal and above it."""
        self.until(lambda lines: False)
        past = ["".join(line[x].data for x in range(COLUMNS)) for line in self.screen.history.top]
        return self.process.wait(PATIENCE_S), "\n".join(line.rstrip() for line in (*past, *self.visible()))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._near)


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """The port of a server for the tests that leave it alone."""
    with local_server() as server:
        yield str(server.port)


@contextlib.contextmanager
def client(*arguments: str, **environment: str) -> Iterator[Client]:
    running = Client("-c", "127.0.0.1", *arguments, **environment)
    try:
        yield running
    finally:
        running.close()


def has_status(lines: list[str]) -> bool:
    """True if the last line is a whole status, with the bar of an interval."""
    return bool(lines) and lines[-1].endswith((" left", " ending", "until Ctrl-C")) and "█" in lines[-1]


def is_partial(text: str) -> bool:
    """True if a part of a status is left."""
    return any(mark in text for mark in ("█", " left", "until Ctrl-C"))


def test_a_test_shows_its_status_and_takes_it_away(port: str) -> None:
    with client("-p", port, "-t", "1", "-i", "0.2", "-b", "5M") as one:
        assert has_status(one.until(has_status))
        status, text = one.finish()
    assert status == 0
    assert not is_partial(text)
    assert text.endswith("iperfpy Done.")
    assert text.count("Test: tcp, congestion control ") == 1
    # The last word to the terminal leaves it as it was: it wraps, and its cursor is on a line of its own.
    assert one.written.rfind(b"\x1b[?7h") > one.written.rfind(b"\x1b[?7l")


@pytest.mark.parametrize("signals", [1, 2])
def test_a_ctrl_c_leaves_no_part_of_the_status(port: str, signals: int) -> None:
    with client("-p", port, "-t", "0", "-i", "0.2", "-b", "5M") as one:
        assert has_status(one.until(has_status))
        for _ in range(signals):
            one.process.send_signal(signal.SIGINT)
        status, text = one.finish()
    assert not is_partial(text)
    assert "iperfpy: interrupt - " in text
    assert status in (0, 130)


def test_a_server_that_ends_leaves_no_part_of_the_status() -> None:
    with local_server() as server:
        one = Client("-c", "127.0.0.1", "-p", str(server.port), "-t", "60", "-i", "0.2", "-b", "5M")
        try:
            assert has_status(one.until(has_status))
            server.stop()
            status, text = one.finish()
        finally:
            one.close()
    assert status == 1
    assert not is_partial(text)
    assert "iperfpy: error - " in text


def test_debug_lines_go_above_the_status(port: str) -> None:
    """They are written by another thread, on the other stream of the same terminal."""
    with client("-p", port, "-t", "1", "-i", "0.2", "-b", "5M", "-d") as one:
        assert has_status(one.until(has_status))
        status, text = one.finish()
    assert status == 0
    assert "iperfpy: to the server: STATS" in text
    assert not is_partial(text)
