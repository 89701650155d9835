"""Names become addresses without the event loop's thread pool."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from iperfpy.errors import ConnectError, PlanError
from iperfpy.runtime.name_lookup import look_up
from iperfpy.runtime.sockets import resolve


def no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_an_address_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    assert await look_up("192.0.2.7", 5201, 0) == [(socket.AF_INET, ("192.0.2.7", 5201))]
    assert await look_up("2001:db8::7", 5201, 0) == [(socket.AF_INET6, ("2001:db8::7", 5201, 0, 0))]
    assert await look_up("fe80::7%lo", 5201, 0) == [(socket.AF_INET6, ("fe80::7", 5201, 0, 1))]


async def test_a_name_without_a_thread_is_an_error_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    with pytest.raises(
        ConnectError, match=r"cannot find the host some\.host: this process may start no more"
    ):
        await resolve("some.host", 5201, 0)


async def test_a_name_is_looked_up_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolver(host: str, port: int, family: int, type: int, flags: int) -> list[object]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        assert threading.current_thread() is not threading.main_thread()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.9", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert await look_up("some.host", 5201, 0) == [(socket.AF_INET, ("192.0.2.9", 5201))]


def test_a_resolver_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop ends although the lookup still runs; a pool's threads would be joined."""
    answers, running = threading.Event(), threading.Event()

    def resolver(host: str, port: int, family: int, type: int, flags: int) -> list[object]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        running.set()
        answers.wait(30)
        return []

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await look_up("some.host", 5201, 0)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    asyncio.run(give_up())
    lookups = [thread for thread in threading.enumerate() if thread.name == "lookup-some.host"]
    assert running.is_set()
    assert [thread.daemon for thread in lookups] == [True]
    answers.set()
    lookups[0].join(10)
    assert not lookups[0].is_alive()


async def test_a_link_local_address_gets_the_scope_of_the_interface() -> None:
    assert await resolve("fe80::7", 5201, 0, "lo") == [(socket.AF_INET6, ("fe80::7", 5201, 0, 1))]
    with pytest.raises(PlanError, match=r"valid on one link only: name its interface, as in fe80::7%eth0"):
        await resolve("fe80::7", 5201, 0)
    with pytest.raises(PlanError, match="no interface named nowhere0"):
        await resolve("fe80::7", 5201, 0, "nowhere0")
