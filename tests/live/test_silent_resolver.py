"""A name that the resolver does not answer for: every look-up of it has a deadline, and can be aborted."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from iperfpy.endpoint.client import run_client
from iperfpy.endpoint.lone_test import run_lone
from iperfpy.endpoint.server import run_server
from iperfpy.errors import ConnectError, InterruptError, IperfpyError, LabError
from iperfpy.lab import relay_session
from iperfpy.lab.relay_session import RelayPlan
from iperfpy.options import ClientOptions, LoneOptions, ServerOptions
from iperfpy.protocols.registry import transport
from iperfpy.protocols.simulator.path_language import parse
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from tests.iperfpy.support import plan_for, until

pytestmark = pytest.mark.live

NAME = "silent.example"
LATE = f"the name {NAME} was not resolved within 0.05 s"
HURRIED, PATIENT = Deadlines(lookup_s=0.05), Deadlines(lookup_s=60.0)

Run = Callable[[AbortScope, bool], Coroutine[Any, Any, Any]]


async def client(scope: AbortScope, hurried: bool) -> None:
    options = ClientOptions("127.0.0.1", 9, bind=NAME, connect_timeout_us=50_000 if hurried else 60_000_000)
    await run_client(plan_for(), options, [], scope=scope)


async def server(scope: AbortScope, hurried: bool) -> None:
    await run_server(ServerOptions(0, NAME), list, scope=scope, deadlines=HURRIED if hurried else PATIENT)


async def dialling_end(scope: AbortScope, hurried: bool) -> None:
    options = ClientOptions("127.0.0.1", 9, bind=NAME, connect_timeout_us=50_000 if hurried else 60_000_000)
    await run_lone(plan_for("kcp"), LoneOptions(options), [], transport=transport("kcp"), scope=scope)


async def listening_end(scope: AbortScope, hurried: bool) -> None:
    await run_lone(
        plan_for("kcp"),
        LoneOptions(ClientOptions(NAME, 0), listens=True),
        [],
        transport=transport("kcp"),
        scope=scope,
        deadlines=HURRIED if hurried else PATIENT,
    )


EVERY_END = pytest.mark.parametrize("run", [client, server, dialling_end, listening_end])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event that is set when the resolver has been asked for `NAME`; it answers at the end of the test."""
    begun, answers = threading.Event(), threading.Event()
    before = socket.getaddrinfo

    def resolver(host: Any, *more: Any, **options: Any) -> Any:
        if host == NAME and not options.get("flags"):
            begun.set()
            answers.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")
        return before(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield begun
    answers.set()


@EVERY_END
async def test_a_name_that_is_not_resolved_in_time_is_an_error(run: Run, asked: threading.Event) -> None:
    with pytest.raises(IperfpyError) as raised:
        await run(AbortScope(), True)
    where = f"cannot listen on port 0 of {NAME}: " if run is server else ""
    assert str(raised.value) == where + LATE


@pytest.mark.parametrize("host", ["server", "listen"])
def test_a_relay_of_the_lab_waits_no_longer(
    host: str, asked: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_session, "LOOKUP_S", 0.05)
    here, silent = ("127.0.0.1", 9), (NAME, 9)
    server, listen = (silent, here) if host == "server" else (here, silent)
    with pytest.raises(LabError, match=f"^{LATE}$"):
        relay_session.run(RelayPlan("20M", parse("20M"), server, listen), lambda address: None)


@EVERY_END
async def test_an_abort_ends_the_look_up(run: Run, asked: threading.Event) -> None:
    scope = AbortScope()
    running = asyncio.create_task(run(scope, False))
    await until(asked.is_set)
    scope.abort(InterruptError("the user has seen enough"))
    async with asyncio.timeout(10):  # the resolver answers later
        with pytest.raises(IperfpyError, match="the user has seen enough"):
            await running


async def test_a_local_name_without_an_address_is_not_found() -> None:
    options = ClientOptions("127.0.0.1", 9, bind="x" * 70)
    with pytest.raises(ConnectError, match=r"cannot find the host x+ \(IPv4\): "):
        await run_client(plan_for(), options, [])
