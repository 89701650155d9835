"""An exception in any method of a transport, at any moment, at either end: the test fails, both ends know.

The transport under test carries its data in memory, beside a real control connection. One of its methods
raises once its moment has come: while streams open, in the omitted period, while the test runs, at its end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iperfpy.cli.main import main
from iperfpy.control.framing import State
from iperfpy.errors import FaultError, IperfpyError, PeerError, PeerTerminatedError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Channel, ClientPort, Load, ServerPort, SocketAddress, Stream, Transport
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings
from tests.iperfpy.support import HURRIED, Peer, Recorder, Server, measure_into, serving

pytestmark = pytest.mark.live

CLIENT, SERVER = "client", "server"
OPENING, OMITTED, RUNNING, END = "opening", "omitted", "running", "end"
OMIT_US, DURATION_US = 60_000, 120_000

MISTAKES: tuple[type[BaseException], ...] = (
    *(TypeError, RuntimeError, KeyError, StopIteration, asyncio.CancelledError, SystemExit),
)
"""Kinds of exceptions, taken in turn by the cases."""


@dataclass
class Fault:
    """The method that raises, its end and its moment; `raised` counts how often it did."""

    method: str
    end: str
    moment: str
    error: BaseException
    raised: int = 0
    began_us: dict[str, int] = field(default_factory=dict)

    def meet(self, method: str, end: str, *, over: bool = False) -> None:
        """Raise the exception if this is its method, its end and its moment."""
        if (method, end) == (self.method, self.end) and (over or self.moment == self._now(end)):
            self.raised += 1
            raise self.error

    def begin(self, end: str) -> None:
        """Data begins to flow at this end."""
        self.began_us.setdefault(end, now_us())

    def _now(self, end: str) -> str:
        began_us = self.began_us.get(end)
        if began_us is None:
            return OPENING
        elapsed_us = now_us() - began_us
        if elapsed_us < self.omit_us:
            return OMITTED
        return RUNNING if elapsed_us < self.omit_us + self.duration_us * 0.8 else END

    # The period in which a fault ends the test is long: a busy machine must not miss it.

    @property
    def omit_us(self) -> int:
        return 50 * OMIT_US if self.moment == OMITTED else OMIT_US

    @property
    def duration_us(self) -> int:
        return 50 * DURATION_US if self.moment == RUNNING else DURATION_US


class Memory(Channel):
    """One end of a stream; its payload is a number in memory."""

    def __init__(self, end: str, fault: Fault, sent: dict[int, int], stream: Stream) -> None:
        self._end, self._fault, self._sent, self._stream = end, fault, sent, stream
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._closed = asyncio.Event()

    def _meet(self, method: str, *, over: bool = False) -> None:
        self._fault.meet(method, self._end, over=over)

    @property
    def first_data_us(self) -> int | None:  # type: ignore[override]  # it has to be able to raise
        self._meet("first_data_us", over=True)
        return None

    def warnings(self) -> tuple[str, ...]:
        self._meet("warnings")
        return ()

    def fileno(self) -> int:
        self._meet("fileno")
        return self._sock.fileno()

    @property
    def local_address(self) -> SocketAddress:
        self._meet("local_address")
        return ("127.0.0.1", 1)

    @property
    def remote_address(self) -> SocketAddress:
        self._meet("remote_address")
        return ("127.0.0.1", 2)

    def counters(self) -> dict[str, Value]:
        self._meet("counters")
        return {"bytes": self._sent.get(self._stream.conv, 0)}

    async def send(self, load: Load) -> None:
        self._fault.begin(self._end)
        conv = self._stream.conv
        while not self._closed.is_set():
            self._meet("send")
            wait_us = load.wait_us(now_us())
            if wait_us < 0:
                self._meet("send", over=self._fault.moment == END)
                return
            if not wait_us:
                self._sent[conv] = self._sent.get(conv, 0) + len(load.take())
            await asyncio.sleep(max(wait_us, 1000) / 1e6)

    async def receive(self) -> None:
        self._fault.begin(self._end)
        while not self._closed.is_set():
            self._meet("receive")
            await asyncio.sleep(0.001)
        self._meet("receive", over=self._fault.moment == END)

    def keep(self, write: object) -> None:
        self._meet("keep")

    async def drain(self) -> None:
        self._meet("drain", over=True)

    async def close(self) -> None:
        self._closed.set()
        self._sock.close()
        self._meet("close", over=True)


class Faulty(Transport):
    """Opens `Memory` channels, and raises where its `Fault` says so."""

    name, summary, prefix = "faulty", "a transport with a fault", "faulty"
    settings = Settings
    metrics = ()

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._sent: dict[int, int] = {}

    def _meet(self, method: str) -> None:
        for end in (CLIENT, SERVER):
            self._fault.meet(method, end)

    def check(self, settings: Settings, *, sends: bool) -> None:
        self._fault.meet("check", CLIENT)

    def payload(self, settings: Settings, size_bytes: int) -> bytes:
        self._meet("payload")
        return bytes(size_bytes)

    def block_bytes(self, settings: Settings) -> int:
        return 1000

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        self._fault.meet("connect", CLIENT)
        return Memory(CLIENT, self._fault, self._sent, stream)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        self._fault.meet("accept", SERVER)
        return Memory(SERVER, self._fault, self._sent, stream)


BOTH_WAYS = (Direction.FORWARD, Direction.REVERSE)


def cases() -> Iterator[tuple[str, str, str, Direction]]:
    """(method, moment, end, direction), where the program calls the method at that end and moment."""
    yield from (("check", OPENING, CLIENT, way) for way in BOTH_WAYS)
    yield from (("connect", OPENING, CLIENT, way) for way in BOTH_WAYS)
    yield from (("accept", OPENING, SERVER, way) for way in BOTH_WAYS)
    for end, way in itertools.product((CLIENT, SERVER), BOTH_WAYS):
        sends = (end == CLIENT) == (way is Direction.FORWARD)
        for moment in (OPENING, OMITTED, RUNNING, END):
            yield ("counters", moment, end, way)
        for moment in (OMITTED, RUNNING, END):
            yield ("send" if sends else "receive", moment, end, way)
        for method in ("fileno", "local_address", "remote_address", "warnings"):
            yield (method, OPENING, end, way)
        for method in ("fileno", "warnings", "close"):
            yield (method, END, end, way)
        if sends:
            yield ("payload", OPENING, end, way)
        else:
            yield ("first_data_us", OMITTED, end, way)
            yield ("keep", OPENING, end, way)
    yield ("drain", END, CLIENT, Direction.FORWARD)


CASES = [(*case, MISTAKES[number % len(MISTAKES)]) for number, case in enumerate(cases())]


def with_fault(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Make the transport known to both ends."""
    known = {**transports(), "faulty": Faulty(fault)}
    for module in ("iperfpy.endpoint.served_test", "iperfpy.protocols.registry"):
        monkeypatch.setattr(f"{module}.transports", lambda: known)
    # The cache of payloads would answer in place of the transport.
    monkeypatch.setattr(
        "iperfpy.traffic.payload._payload",
        lambda transport, settings, size: memoryview(transport.payload(settings, size)),
    )


async def fails(
    server: Server, fault: Fault, direction: Direction, **options: object
) -> tuple[str, Recorder]:
    """Run a client; return the sentence of the error that it must raise, and its recorder."""
    method = fault.method
    amount = {"total_bytes": 20_000} if method == "drain" else {"omit_us": fault.omit_us}
    plan = Plan(
        "faulty",
        Settings(),
        direction,
        block_bytes=1000,
        interval_us=100_000,
        duration_us=0 if method == "drain" else fault.duration_us,
        rate_bps=10_000_000,
        **amount,  # type: ignore[arg-type]  # the names are those of the plan
    )
    recorder = Recorder()
    with pytest.raises(IperfpyError) as raised:
        await measure_into(recorder, server.port, plan, HURRIED, **options)
    assert raised.value.exit_status == 1
    if method != "check":  # before it there is nothing to report to
        assert recorder.sentence == str(raised.value)
    return str(raised.value), recorder


@pytest.mark.parametrize(("method", "moment", "end", "direction", "kind"), CASES)
async def test_an_exception_anywhere_fails_the_test_at_both_ends(
    method: str,
    moment: str,
    end: str,
    direction: Direction,
    kind: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = Fault(method, end, moment, kind("by mistake"))
    with_fault(monkeypatch, fault)
    # A file is filled by the receiver.
    file = {"file": str(tmp_path / "received")} if method == "keep" else {}
    async with serving(HURRIED, **(file if end == SERVER else {})) as server:
        sentence, recorder = await fails(server, fault, direction, **(file if end == CLIENT else {}))
        await server.settled()
        assert fault.raised, sentence
        # The sentence names the transport, the stream, and the cause.
        assert "the transport faulty has a fault: " in sentence
        assert method == "check" or "stream 1" in sentence
        assert kind.__name__ in sentence
        assert sentence.startswith("the server says: ") is (end == SERVER)
        for report in server.tests:
            assert report.sentence not in ("", "no end was reported")
        if moment == END:
            assert recorder.end_rows[0].local.bytes > 0, "what was measured is lost"
        # The server goes on.
        peer = await Peer.connected(server.port)
        assert await peer.state() == State.PARAM_EXCHANGE
        await peer.close()


@pytest.mark.parametrize("direction", BOTH_WAYS)
async def test_one_stream_of_several_ends_the_test(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other streams go on well; their sum must not be shown as the result."""
    fault = Fault(
        "send", CLIENT if direction is Direction.FORWARD else SERVER, RUNNING, TypeError("misspelt")
    )
    with_fault(monkeypatch, fault)
    plan = Plan("faulty", Settings(), direction, block_bytes=1000, duration_us=30_000_000, parallel=3)
    async with serving(HURRIED) as server:
        with pytest.raises(FaultError if direction is Direction.FORWARD else PeerError) as raised:
            await measure_into(Recorder(), server.port, plan, HURRIED)
        await server.settled()
        # Any of the three may be the first.
        assert re.search(
            r"stream \d: the transport faulty has a fault: TypeError: misspelt", str(raised.value)
        )
        assert not isinstance(raised.value, PeerTerminatedError)
        assert server.tests[0].ended is not None


@contextmanager
def served_in_a_thread() -> Iterator[int]:
    """A server in an event loop of its own; its port."""
    ports: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()

    async def serve() -> None:
        async with serving(HURRIED) as server:
            ports.put(server.port)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield ports.get(timeout=20)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("form", [[], ["-J"], ["--json-stream"]])
def test_the_command_line_says_it_in_one_sentence_with_status_1(
    form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client has the fault; its server runs in a thread of its own."""
    fault = Fault("send", CLIENT, RUNNING, TypeError("misspelt"))
    with_fault(monkeypatch, fault)
    known = {**transports(), "faulty": Faulty(fault)}
    monkeypatch.setattr("iperfpy.cli.commands.run.transports", lambda: known)
    with served_in_a_thread() as port:
        status = main(["-c", "127.0.0.1", "-p", str(port), "--proto", "faulty", "-t", "30", *form])
    out, errors = capsys.readouterr()
    sentence = "stream 1: the transport faulty has a fault: TypeError: misspelt (-d shows where)"
    assert status == 1
    # A JSON stream has the sentence in a line of its own, so that both outputs together can be parsed.
    assert errors == ("" if form == ["--json-stream"] else f"iperfpy: error - {sentence}\n")
    if form == ["-J"]:
        assert json.loads(out)["error"] == sentence
    elif form:
        assert [json.loads(line)["data"] for line in out.splitlines() if '"error"' in line] == [sentence]
    else:
        assert "iperfpy Done." not in out
