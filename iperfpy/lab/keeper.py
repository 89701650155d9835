"""The keeper: process 1 of the run's PID namespace, which starts the server and then the command.

The kernel kills everything in a PID namespace when its process 1 ends. The keeper ends when the command has
ended, when `iperfpy lab` has (the control socket is closed, and the kernel sends it a SIGKILL), and after a
SIGKILL to itself. So no process of a run outlives it.

    keeper -> lab   {"event": "started"}, {"event": "ended", "status": N, "server": N or null},
                    {"event": "failed", "reason": SENTENCE, "status": N}
    lab -> keeper   {"signal": N}, for the command
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from iperfpy.errors import system_reason
from iperfpy.lab import linux_calls
from iperfpy.lab.lab_status import NOT_EXECUTABLE, NOT_FOUND
from iperfpy.lab.world import IPV4, IPV6, World
from iperfpy.runtime.visible_arguments import has_secret

MESSAGE_BYTES = 4_096
COMPLAINT_BYTES = 400
LOOK_S = 0.02
"""Time between two looks for the server's sockets."""
GOODBYE_S = 2.0
"""Time that a server has to end after SIGTERM."""
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
_LINE_OF_VARIABLE = 'lab_server=$LAB_SERVER; unset LAB_SERVER; eval "$lab_server"'
"""The shell's line for a line with a secret: the system shows the arguments of a shell to every user, and its
environment to its owner."""
_KEPT = (linux_calls.CAP_NET_BIND_SERVICE, linux_calls.CAP_NET_ADMIN, linux_calls.CAP_NET_RAW)
"""Capabilities of the command over its own end: tcpdump, ping, low ports, any congestion control."""


@dataclass(frozen=True, slots=True)
class Job:
    """The programs of a run.

    server : a line for the shell, run at the far end; empty for none
    server_output : the file that gets its output; empty to discard it
    patience_s : time that the server has to listen
    """

    command: Sequence[str]
    server: str = ""
    server_output: str = ""
    patience_s: float = 10.0

    def environment(self) -> dict[str, str]:
        """The variables of both programs."""
        names = {
            **{f"LAB_{end.upper()}": address for end, address in IPV4.items()},
            **{f"LAB_{end.upper()}6": address for end, address in IPV6.items()},
        }
        return {**os.environ, **names}


def exit_status(wait_status: int) -> int:
    """The status of a shell for a process: its own, or 128 and the number of the signal that ended it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class _FailureError(Exception):
    """The run cannot begin; the status is that of the run."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class Keeper:
    """Starts and watches the programs. It runs in a process of its own.

    dispositions : signal -> its handler at the start of iperfpy; programs inherit an ignored signal
    mask : signals that were blocked at the start of iperfpy; programs inherit these as well
    """

    control: socket.socket
    world: World
    job: Job
    dispositions: Mapping[int, Any]
    mask: Collection[int]
    _server: int = 0
    _command: int = 0
    _ended: dict[int, int] = field(default_factory=dict)
    _complaints: int | None = None
    _complained: bytes = b""
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self) -> NoReturn:
        """Keep the run until its end; this process ends with it."""
        status = 1
        try:
            linux_calls.die_with_parent(signal.SIGKILL)
            self._settle()
            self._start()
            self._watch()
            status = 0
        except _FailureError as error:
            self._tell(event="failed", reason=str(error), status=error.status)
        except OSError as error:
            self._tell(event="failed", reason=f"the system refused: {system_reason(error)}", status=1)
        finally:
            os._exit(status)

    def _settle(self) -> None:
        """Prepare this process: signals, descriptors, and a /proc of the new PID namespace."""
        for number in TERMINAL_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        with contextlib.suppress(OSError):  # in a container: its /proc hides parts of the machine's
            linux_calls.unshare(linux_calls.CLONE_NEWNS)
            linux_calls.mount("none", "/", "", linux_calls.MS_REC | linux_calls.MS_PRIVATE)
            flags = linux_calls.MS_NOSUID | linux_calls.MS_NODEV | linux_calls.MS_NOEXEC
            linux_calls.mount("proc", "/proc", "proc", flags)
        # The server's sockets are looked up in the network namespace of this process.
        linux_calls.enter_network(self.world.networks["far"])

    # -- programs

    def _start(self) -> None:
        """Start the server, wait until it listens, and start the command."""
        if self.job.server:
            output: Any = subprocess.DEVNULL
            errors: Any = subprocess.STDOUT
            if self.job.server_output:
                output = Path(self.job.server_output).open("wb")  # noqa: SIM115 - this process ends soon
            else:
                self._complaints, errors = os.pipe()
            hides = has_secret([self.job.server])
            self._server = self._spawn(
                ["/bin/sh", "-c", _LINE_OF_VARIABLE if hides else self.job.server],
                "far",
                {"LAB_SERVER": self.job.server} if hides else NO_VARIABLES,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
            if errors != subprocess.STDOUT:
                os.close(errors)
            self._await_server()
        self._tell(event="started")
        self._command = self._spawn(self.job.command, "near")

    def _spawn(
        self, words: Sequence[str], end: str, variables: Mapping[str, str] = NO_VARIABLES, **streams: Any
    ) -> int:
        """Start a program at that end, with further variables in its environment. Returns its process id.
        Raises `_FailureError`."""

        def prepare() -> None:
            linux_calls.enter_network(self.world.networks[end])
            # Ctrl-C of the terminal is for the command alone: it may need the server for its last words.
            if end == "far":
                os.setsid()
            for number, disposition in self.dispositions.items():
                signal.signal(number, signal.SIG_IGN if disposition is signal.SIG_IGN else signal.SIG_DFL)
            if self.world.unprivileged:
                linux_calls.keep_capabilities(_KEPT)

        try:
            environment = {**self.job.environment(), **variables}
            made = subprocess.Popen(list(words), preexec_fn=prepare, env=environment, **streams)
            # An object that is dropped asks for the process's end itself, and takes it from `_reap`.
            self._programs.append(made)
            return made.pid
        except FileNotFoundError:
            raise _FailureError(f"{words[0]}: command not found", NOT_FOUND) from None
        except OSError as error:
            raise _FailureError(f"{words[0]}: {error.strerror}", NOT_EXECUTABLE) from None

    def _await_server(self) -> None:
        deadline, seen = time.monotonic() + self.job.patience_s, 0
        while True:
            self._reap()
            # A server that goes into the background leaves a shell behind that ends with 0.
            if status := self._ended.get(self._server):
                self._read_complaints()
                last = self._complained.decode(errors="replace").strip().splitlines()[-1:]
                said = "".join(f": {line}" for line in last)
                raise _FailureError(f"the server ended with status {status} before it listened{said}", 1)
            found = listening_sockets(Path("/proc/self"))
            # A server that opens several sockets opens them together: two equal looks have all of them.
            if found and found == seen:
                return
            seen = found
            if time.monotonic() > deadline:
                raise _FailureError(
                    f"the server has no listening TCP socket and no bound UDP socket after "
                    f"{self.job.patience_s:g} s",
                    1,
                )
            self._hear(LOOK_S)

    # -- the course of the run

    def _watch(self) -> None:
        """Wait for the end of the command, report it, and end the server."""
        wake, self_pipe = os.pipe()
        os.set_blocking(self_pipe, False)
        signal.set_wakeup_fd(self_pipe, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._reap()
        while self._command not in self._ended:
            self._hear(None, wake)
            self._reap()
        self._tell(event="ended", status=self._ended[self._command], server=self._ended.get(self._server))
        deadline = time.monotonic() + GOODBYE_S
        if self._server and self._server not in self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server, signal.SIGTERM)
            while self._server not in self._ended and (left := deadline - time.monotonic()) > 0:
                self._hear(left, wake)
                self._reap()

    def _hear(self, seconds: float | None, wake: int | None = None) -> None:
        """Wait for a message, a child's end, or the end of the time. Without a lab this process ends."""
        awaited: list[Any] = [one for one in (self.control, wake, self._complaints) if one is not None]
        ready, _, _ = select.select(awaited, [], [], seconds)
        if self._complaints in ready:
            self._read_complaints()
        if wake in ready and wake is not None:
            os.read(wake, MESSAGE_BYTES)
        if self.control in ready:
            message = self.control.recv(MESSAGE_BYTES)
            if not message:
                os._exit(1)
            if self._command and self._command not in self._ended:
                with contextlib.suppress(ProcessLookupError):
                    descriptor = os.pidfd_open(self._command)
                    signal.pidfd_send_signal(descriptor, json.loads(message)["signal"])
                    os.close(descriptor)

    def _read_complaints(self) -> None:
        """Keep the end of the server's standard error, for the sentence of a failure."""
        if self._complaints is None or not select.select([self._complaints], [], [], 0)[0]:
            return
        data = os.read(self._complaints, MESSAGE_BYTES)
        self._complained = (self._complained + data)[-COMPLAINT_BYTES:]
        if not data:
            os.close(self._complaints)
            self._complaints = None

    def _reap(self) -> None:
        """Take note of every process that has ended, orphans included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if not process:
                    break
                self._ended[process] = exit_status(status)

    def _tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the lab is gone, and this process with it
            self.control.send(json.dumps(message).encode())


def listening_sockets(folder: Path) -> int:
    """Number of TCP sockets that listen and UDP sockets that are bound and not connected, by the tables in a
    folder like /proc/self."""
    count = 0
    for name, state in (("net/tcp", "0A"), ("net/tcp6", "0A"), ("net/udp", "07"), ("net/udp6", "07")):
        with contextlib.suppress(OSError):
            for line in (folder / name).read_text().splitlines()[1:]:
                fields = line.split()
                # sl, local address, remote address, state: a socket without a peer has port 0 there
                count += fields[3] == state and fields[2].endswith(":0000")
    return count
