"""Run iperfpy with a part of a processor: it is stopped for a time, and goes on for a time, in turn.

python -m tests.studies.blind.slow_server 0.6 0.2 -s      # stopped for 0.6 s, then 0.2 s of work
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.open_ports import open_ports


def await_listening(server: subprocess.Popen[bytes]) -> None:
    """Wait until the server listens: a start that is interrupted may take longer than the lab waits.

    The network namespace of the server in the lab has no other program that listens.
    """
    while server.poll() is None and not open_ports():
        time.sleep(0.05)


def alternate(server: subprocess.Popen[bytes], stopped_s: float, working_s: float) -> int:
    """Stop the server and let it go on until it has ended; return its status."""
    while server.poll() is None:
        time.sleep(working_s)
        server.send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)
        server.send_signal(signal.SIGCONT)
    return server.returncode


def main() -> int:
    stopped_s, working_s = float(sys.argv[1]), float(sys.argv[2])
    server = subprocess.Popen([sys.executable, "-m", "iperfpy", *sys.argv[3:]])
    # The lab ends the server with a signal, and kills all that it left behind.
    signal.signal(signal.SIGTERM, lambda number, frame: server.kill())
    await_listening(server)
    return alternate(server, stopped_s, working_s)


if __name__ == "__main__":
    sys.exit(main())
