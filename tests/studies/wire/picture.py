"""Runs the program over a path between namespaces and keeps its screen as an SVG, for the README. As root:

    make picture                        # python -m tests.studies.wire.picture docs/reverse.svg

The path is that of the report that the project began with, in reverse: 170 ms, policed to 20 Mb/s.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.studies.wire.namespaces import SERVER, Path3, PathSpec, path, why_not

STORY = PathSpec("170 ms, policed to 20 Mb/s", rate_mbit=100, delay_ms=85, police_mbit=20)
COMMAND = ("-c", SERVER, "--proto", "kcp-bbr", "-R")
SHOWN = "iperfpy -c SERVER --proto kcp-bbr -R"
COLUMNS, LINES = 120, 40
STATUS = re.compile(r"\r\x1b\[J|\x1b\[\?7l.*?\x1b\[\?7h\r")
"""The status line, and the sequence that erases it: none of it is left on the screen."""
LISTEN_S = 2.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.wire.picture", description=__doc__)
    parser.add_argument("file", metavar="FILE.svg")
    file = parser.parse_args(arguments).file
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    with path(STORY, reverse=True) as made:
        status, screen = _run(made)
    if status:
        print(screen, file=sys.stderr)
        return status
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text(f"$ {SHOWN}", style="bold"))
    console.print(Text.from_ansi(screen.rstrip()), soft_wrap=True)
    console.save_svg(file, title=STORY.name, theme=MONOKAI)
    print(f"written: {file}")
    return 0


def _run(made: Path3) -> tuple[int, str]:
    """Run server and client; give the client's exit status and all that it wrote to its terminal."""
    program = (sys.executable, "-m", "iperfpy")
    server = subprocess.Popen(
        made.command(made.server, (*program, "-s", "-1")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(LISTEN_S)
    near, far = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
    try:
        client = subprocess.Popen(
            made.command(made.client, (*program, *COMMAND)), stdout=far, stderr=far, env=environment
        )
        # Only the client holds the terminal now, so reading ends with it.
        os.close(far)
        screen = _read(near)
        return client.wait(30), screen.replace(SERVER, "SERVER")
    finally:
        os.close(near)
        server.terminate()
        server.wait(10)


def _read(terminal: int) -> str:
    """Read until the last program closes the other end of the terminal."""
    pieces = []
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # Linux reports the hang-up of a terminal as EIO
            break
        if not piece:
            break
        pieces.append(piece)
    return STATUS.sub("", b"".join(pieces).decode().replace("\r\n", "\n"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
