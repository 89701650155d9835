"""Ctrl-Z and the status on a terminal. The parent of the process is no member of its group, as a shell."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pyte
import pytest

DEADLINE_S = 10
ROW = """
import sys
from iperfpy.cli.standard_streams import status_row
with status_row() as row:
    print("a line")
    row.show("drawn 1")
    sys.stdin.readline()
    row.show("drawn 2")
    sys.stdin.readline()
"""
BAR = """
import sys
from iperfpy.cli.terminal_stop import stopping_within
from iperfpy.report.progress_lines import progress_for
with progress_for(sys.stdout) as view, stopping_within(view.hidden):
    view.remark("a line")
    view.step("drawn 1", 1.0, 9.0)
    sys.stdin.readline()
    view.step("drawn 2", 2.0, 9.0)
    sys.stdin.readline()
"""


def _with(text: str) -> Callable[[list[str]], bool]:
    return lambda lines: any(text in line for line in lines)


def _stopped(process: subprocess.Popen[bytes]) -> int:
    """Send SIGTSTP until the state of the process changes; the new state. One that comes just before the
    process begins to read is noticed only when the read ends, and a second one ends it."""
    status = 0
    for attempt in range(100 * DEADLINE_S):
        if attempt % 20 == 0:
            process.send_signal(signal.SIGTSTP)
        changed, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        if changed:
            break
        time.sleep(0.01)
    return status


@pytest.mark.parametrize("program", [ROW, BAR], ids=["row", "bar"])
def test_a_stopped_process_leaves_no_status_and_draws_it_again(program: str) -> None:
    terminal, end = pty.openpty()
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)

    def shown() -> list[str]:
        return [line.rstrip() for line in screen.display if line.strip()]

    def read_until(done: Callable[[list[str]], bool]) -> None:
        """The terminal hands over some time later what a process wrote, also of one that has stopped."""
        while not done(shown()):
            assert select.select([terminal], [], [], DEADLINE_S)[0], shown()
            stream.feed(os.read(terminal, 4096))

    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=end,
        process_group=0,
        env={**os.environ, "TERM": "xterm"},
    )
    with contextlib.ExitStack() as ends:
        ends.callback(os.close, terminal)
        ends.callback(os.close, end)
        ends.enter_context(process)  # closes its pipe, and waits
        ends.callback(process.kill)
        assert process.stdin is not None
        for number in (1, 2):
            read_until(_with(f"drawn {number}"))
            assert os.WIFSTOPPED(_stopped(process))
            read_until(lambda lines: lines == ["a line"])
            process.send_signal(signal.SIGCONT)
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert process.wait() == 0
