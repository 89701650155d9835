"""Servers, peers and relays inside the test process, and a sink that records."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.endpoint.client import run_client
from iperfpy.endpoint.server import run_server
from iperfpy.options import ClientOptions, ServerOptions
from iperfpy.plan import Plan
from iperfpy.protocols import registry
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.registry import transport
from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.runtime.deadlines import Deadlines

HURRIED = Deadlines(
    cookie_s=0.8,
    reply_s=1.0,
    streams_s=1.5,
    begun_s=0.1,
    quiet_s=1.5,
    results_s=5.0,
    farewell_s=0.3,
    retry_s=0.2,
    verdict_s=0.1,
)
"""Short deadlines, for tests in which one is expected to pass."""

RATE_BPS = 50_000_000
"""Rate of each stream of a test of a duration, unless the test says otherwise."""


def register(monkeypatch: pytest.MonkeyPatch, *added: Transport) -> None:
    """Add transports to the registry. Replace no function that other modules import by name: a module that
    is imported meanwhile would keep the replacement."""
    known = registry._registry()
    loaded = known.loaded | {one.name: one for one in added}
    monkeypatch.setattr(registry, "_registry", lambda: known._replace(loaded=loaded))


class Recorder:
    """A sink. `call` is called when the test has started and reported `after` intervals."""

    def __init__(self, call: Callable[[], None] | None = None, after: int = 3) -> None:
        self._call, self._after = call, after
        self.started: RunStarted | None = None
        self.intervals: list[tuple[Row, ...]] = []
        self.ended: RunEnded | None = None
        self.errors: list[str] = []
        self.closed = False

    def start(self, start: RunStarted) -> None:
        assert self.started is None
        self.started = start
        self._call_if_due()

    def interval(self, rows: tuple[Row, ...]) -> None:
        assert self.started is not None
        assert self.ended is None
        self.intervals.append(rows)
        self._call_if_due()

    def _call_if_due(self) -> None:
        if self._call is not None and len(self.intervals) == self._after:
            asyncio.get_running_loop().call_later(0.02, self._call)

    def end(self, end: RunEnded) -> None:
        assert self.ended is None
        assert not self.errors
        self.ended = end

    def error(self, message: str) -> None:
        assert self.ended is None
        self.errors.append(message)

    def close(self) -> None:
        self.closed = True

    @property
    def end_rows(self) -> tuple[Row, ...]:
        assert self.ended is not None
        return self.ended.rows

    @property
    def sentence(self) -> str:
        """Error or interruption that ended the test early."""
        return (
            self.errors[0] if self.errors else self.ended.interrupted if self.ended else "no end was reported"
        )


async def until(ready: Callable[[], bool]) -> None:
    """Poll until `ready()`."""
    async with asyncio.timeout(10):
        while not ready():  # noqa: ASYNC110 - there is no event for everything that a test waits for
            await asyncio.sleep(0.01)


@dataclass
class Server:
    """A running server: its port, and one recorder per test that started (of `recorders` first)."""

    port: int = 0
    recorders: list[Recorder] = field(default_factory=list)
    tests: list[Recorder] = field(default_factory=list)
    task: asyncio.Task[bool] | None = None

    def make_sinks(self) -> list[Recorder]:
        self.tests.append(self.recorders.pop(0) if self.recorders else Recorder())
        return [self.tests[-1]]

    async def settled(self) -> None:
        """Wait until every test that started has been closed."""
        await until(lambda: all(test.closed for test in self.tests))

    async def started(self) -> None:
        """Wait until a test has started."""
        await until(lambda: any(test.started for test in self.tests))


@asynccontextmanager
async def serving(deadlines: Deadlines | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server on a free port of 127.0.0.1, unless `bind` says otherwise."""
    server = Server()
    listening = asyncio.Event()

    def on_listening(port: int) -> None:
        server.port = port
        listening.set()

    # The server may fail before it listens; then its error is raised instead of waiting for the port.
    settings = ServerOptions(**{"port": 0, "bind": "127.0.0.1", **options})
    server.task = asyncio.create_task(
        run_server(settings, server.make_sinks, on_listening=on_listening, deadlines=deadlines)
    )
    waiting = asyncio.create_task(listening.wait())
    await asyncio.wait([waiting, server.task], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if server.task.done():
        server.task.result()
    try:
        yield server
    finally:
        server.task.cancel()
        await asyncio.gather(server.task, return_exceptions=True)


def plan_for(name: str = "tcp", **changes: Any) -> Plan:
    """A short test. Unless a rate is given, a timed one is limited to `RATE_BPS`: loopback would take as
    much as the processors give, and few tests need a full load."""
    chosen = transport(name)
    settings = chosen.settings()
    defaults = {"duration_us": 300_000, "interval_us": 100_000, "block_bytes": chosen.block_bytes(settings)}
    if {"total_bytes", "total_blocks"} & set(changes):
        defaults["duration_us"] = 0
    else:
        defaults["rate_bps"] = RATE_BPS
    return replace(Plan(name, settings), **{**defaults, **changes})


async def measure(port: int, plan: Plan, deadlines: Deadlines | None = None, **options: Any) -> Recorder:
    """Run a client against `port` and return its recorder; raise the errors of `run_client`."""
    recorder = Recorder()
    await measure_into(recorder, port, plan, deadlines, **options)
    return recorder


async def measure_into(
    recorder: Recorder, port: int, plan: Plan, deadlines: Deadlines | None = None, **options: Any
) -> None:
    """Run a client with the given recorder, so that the report of a failed test can be examined."""
    client = ClientOptions(**{"host": "127.0.0.1", "port": port, **options})
    await run_client(plan, client, [recorder], deadlines=deadlines)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(handler: Handler) -> AsyncIterator[int]:
    """Serve every connection by `handler`; the port is yielded."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            handling.discard(task)
            writer.close()

    # Handlers that still wait are cancelled at the end: a closed server does not end its connections.
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(handling):
            task.cancel()
        await asyncio.sleep(0.01)


class Peer:
    """The peer's end of a control connection; the test chooses the messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.others: list[asyncio.StreamWriter] = []  # closed with it

    @classmethod
    async def connected(cls, port: int, cookie: str = "s" * 36) -> Peer:
        """Connect as a client, and send the cookie."""
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        peer.writer.write(framing.encode_cookie(cookie))
        return peer

    def send_states(self, *states: State) -> None:
        self.writer.write(b"".join(framing.encode_state(state) for state in states))

    def send_document(self, body: dict[str, Any]) -> None:
        self.writer.write(framing.encode_document(body))

    async def state(self) -> int:
        """Receive the next byte, as a signed integer."""
        async with asyncio.timeout(5):
            return int(struct.unpack(">b", await self.reader.readexactly(1))[0])

    async def document(self) -> bytes:
        async with asyncio.timeout(5):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            return await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Receive everything until the other end closes."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        for writer in (self.writer, *self.others):
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                continue


class Relay:
    """A relay between client and server that can reset or silence its connections, as a failing path does."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._frozen = False
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Stop forwarding without closing a connection."""
        self._frozen = True

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers += [writer, to_server]
        await asyncio.gather(self._forward(reader, to_server), self._forward(from_server, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await reader.read(65536)
                if self._frozen:  # neither data nor the end of a connection passes
                    await asyncio.sleep(60)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def relayed(server_port: int) -> AsyncIterator[Relay]:
    """A relay to the server."""
    relay = Relay(server_port)
    async with scripted(relay.handle) as port:
        relay.port = port
        try:
            yield relay
        finally:
            relay.cut()
