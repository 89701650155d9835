"""One test over one path: the reports of both ends, and the packets."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from iperfpy import Run, Side
from tests.studies.wire import accounts
from tests.studies.wire.accounts import Floats, Wire
from tests.studies.wire.capture import Packet, tap
from tests.studies.wire.namespaces import SERVER, Path3, PathSpec, inside, path
from tests.warm_program import WarmProgram

PORT = 5201
END_S = 30.0
LISTEN_S = 20.0
LAST_PACKETS_S = 0.3


class CaseError(Exception):
    """The test did not run; the sentence says what failed."""


@dataclass(frozen=True, slots=True)
class Case:
    """A transport over a path in one direction, with the client's flags. Without -n it lasts `seconds`."""

    transport: str
    path: PathSpec
    reverse: bool = False
    flags: tuple[str, ...] = ()
    seconds: int = 5

    @property
    def name(self) -> str:
        return f"{self.transport} {'reverse' if self.reverse else 'forward'}, {self.path.name}"

    @property
    def client_flags(self) -> tuple[str, ...]:
        direction = ("-R",) if self.reverse else ()
        length = () if "-n" in self.flags else ("-t", str(self.seconds))
        return ("--proto", self.transport, *length, *direction, *self.flags)


@dataclass(frozen=True, slots=True)
class Report:
    """The report of one end: the sender or the receiver of the test's first stream."""

    run: Run
    side: Side

    @classmethod
    def of(cls, document: Mapping[str, Any], side: Side) -> Report:
        """Read the JSON of one end. Raises `CaseError` if its test failed."""
        run = Run.from_document(document)
        if run.error:
            raise CaseError(f"{document['start'].get('role', 'one end')} says: {run.error}")
        return cls(run, side)

    def has(self, name: str) -> bool:
        """True if the transport has the figure."""
        return name in self.run.figures

    def total(self, name: str) -> float:
        """Give a figure of the whole test, as this end counted it; NaN if it is not known."""
        return self.run.total(name, stream=1, side=self.side)

    def intervals(self, name: str) -> Floats:
        """Give a figure of every interval, as this end counted it."""
        return self.run.column(name, stream=1)

    def counted(self, name: str) -> Floats:
        """Give the running total of a figure at the end of each interval."""
        return np.cumsum(self.intervals(name))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that ran."""

    case: Case
    sender: Report
    receiver: Report
    wire: Wire

    @property
    def runs(self) -> tuple[Run, Run]:
        """The runs of the client and of the server."""
        runs = (self.sender.run, self.receiver.run)
        return runs[::-1] if self.case.reverse else runs


def measure(case: Case) -> Outcome:
    """Make the path, run the test, remove the path.

    Raises
    ------
    CaseError, CaptureError, PathError
    """
    with path(case.path, reverse=case.reverse) as made, ExitStack() as stack:
        taps = (
            stack.enter_context(tap(made.client, made.client_device)),
            stack.enter_context(tap(made.server, made.server_device)),
        )
        documents = _run(case, made)
        # Packets in flight at the end of the test must reach the capture too.
        time.sleep(LAST_PACKETS_S + 4e-3 * case.path.delay_ms)
        at_client, at_server = (each.packets() for each in taps)
    sent, arrived = (at_server, at_client) if case.reverse else (at_client, at_server)
    sending, receiving = documents[::-1] if case.reverse else documents
    sender, receiver = Report.of(sending, Side.SENDER), Report.of(receiving, Side.RECEIVER)
    wire = _account(case, sent, arrived, sender.run.plan.block_bytes)
    wire = replace(wire, until_us=accounts.counted_until_us(arrived, reverse=case.reverse))
    return Outcome(case, sender, receiver, wire)


def reports(case: Case) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Run the test without a capture; give the JSON of client and server."""
    return captured(case)[0]


def captured(case: Case) -> tuple[tuple[Mapping[str, Any], Mapping[str, Any]], list[Packet]]:
    """Give the JSON of client and server, and the packets of the server's device."""
    with path(case.path, reverse=case.reverse) as made, tap(made.server, made.server_device) as at_server:
        documents = _run(case, made)
        time.sleep(LAST_PACKETS_S)
        return documents, at_server.packets()


def _account(case: Case, sender: Sequence[Packet], receiver: Sequence[Packet], block_bytes: int) -> Wire:
    if case.transport == "tcp":
        return accounts.tcp(sender, receiver, reverse=case.reverse)
    if case.transport == "udp":
        return accounts.udp(sender, receiver, block_bytes)
    return accounts.kcp(sender, receiver)


def _run(case: Case, made: Path3) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run both programs; give the JSON of client and server."""
    ask = ("-c", SERVER, "-J", "-p", str(PORT), *case.client_flags)
    with _started(made.server, ("-s", "-1", "-J", "-p", str(PORT))) as server, ExitStack() as stack:
        stack.callback(server.kill)
        await_listener(server, made.server, PORT)
        client = stack.enter_context(_started(made.client, ask))
        stack.callback(client.kill)
        documents = [_document(case, each) for each in (client, server)]
    return documents[0], documents[1]


def _started(namespace: str, words: Sequence[str]) -> WarmProgram:
    return WarmProgram(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, namespace=namespace)


def _document(case: Case, process: WarmProgram) -> dict[str, Any]:
    try:
        output, complaint = process.communicate(timeout=case.seconds + END_S)
    except subprocess.TimeoutExpired as error:
        raise CaseError(f"{case.name}: a program did not end") from error
    if process.returncode:
        errors = complaint.strip().splitlines() or ["no output"]
        raise CaseError(f"{case.name}: status {process.returncode}: {errors[-1]}")
    document: dict[str, Any] = json.loads(output)
    return document


def await_listener(server: WarmProgram, namespace: str, port: int) -> None:
    """Wait until a port is open. The kernel's tables tell: a connection would count as a test."""
    until = time.monotonic() + LISTEN_S
    while time.monotonic() < until and server.poll() is None:
        with inside(namespace):
            for name in ("tcp", "tcp6"):
                with open(f"/proc/thread-self/net/{name}") as table:
                    if any(f":{port:04X} " in line and " 0A " in line for line in table):
                        return
        time.sleep(0.02)
    raise CaseError("the server did not open its port")
