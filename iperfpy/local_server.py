"""A server on loopback, in a process of its own, for the time of a `with` block.

    LocalServer  --starts-->  python -m iperfpy.local_server HOST PORT MAX_TESTS
                 <--stdout--  the port, once clients can connect
                 --stdin--->  a line: stop; or its end, which the system makes if this process dies

A process of its own keeps the two ends of a test from sharing one interpreter lock, as on two machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from iperfpy.errors import IperfpyError, ListenError
from iperfpy.measure_keywords import server_options
from iperfpy.protocols.operating_system import apart_from_terminal
from iperfpy.protocols.threads import start_thread

LISTEN_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0


def python_module(module: str) -> list[str]:
    """The first words of a command that runs a module of this program, with `environment`."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The variables with which another process imports the same modules as this one, from the same folders.

    So a checkout need not be installed.
    """
    return {
        "OPENBLAS_NUM_THREADS": "1",  # numpy's threads spin while they wait; nothing here uses them
        **os.environ,
        "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path),
    }


class LocalServer:
    """A server process, started and stopped by `with` or `async with`.

    Parameters
    ----------
    host : str
        The address to listen on; one of this machine.
    port : int
        0: any free port.
    max_tests : int
        Number of concurrent tests.

    Attributes
    ----------
    host : str
    port : int
        The port that the server listens on, inside the block.

    Raises
    ------
    PlanError
        An argument has an impossible value.
    ListenError
        On entering: the address or the port cannot be listened on, or the process did not start.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, max_tests: int = 64) -> None:
        options = server_options(None, {"bind": host, "port": port, "max_tests": max_tests})
        self.host = options.bind
        self.port = self._wanted_port = options.port
        self._max_tests = options.max_tests
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Process number of the server, inside the block."""
        if self._process is None:
            raise RuntimeError("the server runs inside `with`")
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until clients can connect. Raises `ListenError`."""
        if self._process is not None:
            raise RuntimeError("the server runs already")
        arguments = (self.host, str(self._wanted_port), str(self._max_tests))
        self._process = subprocess.Popen(
            [*python_module("iperfpy.local_server"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            **apart_from_terminal(),  # Ctrl-C is for this process, which stops the server
        )
        answer = self._answer(self._process)
        if not answer.isdigit():
            self.stop()
            raise ListenError(answer or "the server process did not start")
        self.port = int(answer)

    def stop(self) -> None:
        """Stop the process: running tests end, and their clients are told. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:  # closes the pipes
            killing = threading.Timer(STOP_DEADLINE_S, process.kill)
            killing.start()
            assert process.stdin is not None, "the process was started with a pipe"
            with contextlib.suppress(OSError):  # it has ended already
                # A line, as closing may not be noticed: a forked child of this process holds the pipe open.
                process.stdin.write("stop\n")
                process.stdin.close()
            process.wait()
            killing.cancel()

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        """The first line of the process: its port, or why it cannot listen; empty if it gives none."""
        assert process.stdout is not None, "the process was started with a pipe"
        killing = threading.Timer(LISTEN_DEADLINE_S, process.kill)
        killing.start()
        try:
            return process.stdout.readline().strip()
        finally:
            killing.cancel()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


async def _serve(host: str, port: int, max_tests: int) -> None:
    """Serve until standard input has a line, or ends."""
    from iperfpy.api import serve_async

    loop = asyncio.get_running_loop()
    serving = asyncio.current_task()
    assert serving is not None, "a coroutine that runs has a task"

    # Windows lets no thread ask for the type of a handle while another one reads from it, and each C library
    # that comes with a module asks for that of standard input: so that is another handle from now on.
    stopping = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def wait_for_stop() -> None:
        # Not sys.stdin: its lock, held at the end of the interpreter, would abort the process.
        os.read(stopping, 1)
        loop.call_soon_threadsafe(serving.cancel)

    start_thread(wait_for_stop, "wait-for-stop")
    await serve_async(
        port=port, bind=host, max_tests=max_tests, on_listening=lambda port: print(port, flush=True)
    )


def main(arguments: Sequence[str]) -> int:
    """The server process; gives its exit status."""
    from iperfpy.runtime import event_loop

    host, port, max_tests = arguments
    try:
        event_loop.run(_serve(host, int(port), int(max_tests)))
    except asyncio.CancelledError:
        return 0
    except IperfpyError as error:
        print(error, flush=True)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
