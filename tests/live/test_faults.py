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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.main import main
from iperfpy.control.framing import State
from iperfpy.endpoint import served_test
from iperfpy.endpoint.client import run_client
from iperfpy.endpoint.opening import Greeted
from iperfpy.endpoint.running_test import RunningTest
from iperfpy.endpoint.served_test import ServedTest
from iperfpy.errors import FaultError, InterruptError, IperfpyError, PeerError, PeerTerminatedError
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import (
    Channel,
    ClientPort,
    Iperf3Mapping,
    Load,
    ServerPort,
    SocketAddress,
    Stream,
    Transport,
)
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.tcp import TcpSettings
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.traffic.ending import EndEvent
from tests.iperfpy.support import HURRIED, Peer, Recorder, Server, measure_into, register, serving

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
    def opening_us(self) -> int | None:  # type: ignore[override]  # it has to be able to raise
        self._meet("opening_us")
        return None

    @property
    def heard_us(self) -> int | None:
        self._meet("heard_us")
        return None

    def signs(self, since_us: int) -> tuple[str, ...]:
        self._meet("signs", over=True)
        return ()

    def held_bytes(self) -> int:
        self._meet("held_bytes", over=True)
        return 0

    def evidence(self) -> PathEvidence | None:
        self._meet("evidence", over=True)
        return None

    def withdraw(self) -> None:
        self._meet("withdraw", over=True)

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

    def __init__(self, fault: Fault, end: str, sent: dict[int, int]) -> None:
        self._fault, self._end, self._sent = fault, end, sent

    def _meet(self, method: str, *, over: bool = False) -> None:
        self._fault.meet(method, self._end, over=over)

    def check(self, settings: Settings, *, sends: bool) -> None:
        self._meet("check")

    def check_secret(self, settings: Settings, secret: bytes | None) -> None:
        self._meet("check_secret")

    def needed_features(self, settings: Settings) -> dict[str, str]:
        self._meet("needed_features")
        return {}

    def iperf3_parameters(self, settings: Settings, block_bytes: int) -> dict[str, Any]:
        self._meet("iperf3_parameters")
        return {}

    def payload(self, settings: Settings, size_bytes: int) -> bytes:
        self._meet("payload")
        return bytes(size_bytes)

    def block_bytes(self, settings: Settings) -> int:
        self._meet("block_bytes")
        return 1000

    def remarks(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        self._meet("remarks", over=True)
        return ()

    def notices(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        self._meet("notices", over=self._fault.moment == END)
        return ()

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        self._meet("connect")
        return Memory(self._end, self._fault, self._sent, stream)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        self._meet("accept")
        return Memory(self._end, self._fault, self._sent, stream)


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
        yield ("remarks", END, end, way)
        yield ("notices", END, end, way)
        yield ("notices", RUNNING, end, way)
        if sends:
            yield ("withdraw", END, end, way)
        else:
            # It is asked once, when the measured period begins.
            yield ("held_bytes", RUNNING, end, way)
    yield ("drain", END, CLIENT, Direction.FORWARD)
    yield ("needed_features", OPENING, CLIENT, Direction.FORWARD)
    yield ("iperf3_parameters", OPENING, CLIENT, Direction.FORWARD)
    for end in (CLIENT, SERVER):
        for method in ("check_secret", "block_bytes", "opening_us"):
            yield (method, OPENING, end, Direction.FORWARD)
        for method in ("heard_us", "evidence"):
            yield (method, END, end, Direction.FORWARD)
        for method, moment in (("send", RUNNING), ("receive", RUNNING), ("counters", END), ("remarks", END)):
            yield (method, moment, end, Direction.BIDIRECTIONAL)


NOT_IN_A_CASE = {
    "signs": "asked when a peer is silent: a test of its own",
    "wire_bytes": "of tests of messages, and guarded as all calls of a channel: test_guarded_channel.py",
    "wake": "of tests of messages, and guarded as all calls of a channel: test_guarded_channel.py",
    "returned": "of a bare peer, and guarded as all calls of a channel: test_guarded_channel.py",
    "uses_secret": "asked of the words of a command line, before there is a test: test_secret_flags.py",
    "for_messages": "makes a plan, before there is a test",
    "check_compression": "asked of the words of kcp-peer, before there is a test: test_kcp_peer.py",
    "bare_settings": "of a bare peer that does not answer, so that the test has failed already",
    "iperf3_settings": "of a stock client: it reads parameters, as block_bytes does",
}
"""Methods of the contract that `cases` leaves out, each with the reason."""
BEFORE_THE_TEST = {("check", CLIENT), ("check_secret", CLIENT), ("iperf3_parameters", CLIENT)}
"""Calls before there is a server, or a sink, to report to."""
WITHOUT_STREAM = {"check", "check_secret", "needed_features", "iperf3_parameters", "block_bytes"}

CASES = [(*case, MISTAKES[number % len(MISTAKES)]) for number, case in enumerate(cases())]


def with_fault(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Make the transport known to both ends."""
    sent: dict[int, int] = {}
    served = {**transports(), "faulty": Faulty(fault, SERVER, sent)}
    monkeypatch.setattr(served_test, "transports", lambda: served)
    register(monkeypatch, Faulty(fault, CLIENT, sent))
    if fault.method == "iperf3_parameters":  # asked of a transport that iperf3 knows, too
        monkeypatch.setattr(Faulty, "iperf3", Iperf3Mapping("faulty"))
    # The cache of payloads would answer in place of the transport.
    monkeypatch.setattr(
        "iperfpy.traffic.payload._payload",
        lambda transport, settings, size: memoryview(transport.payload(settings, size)),
    )


async def fails(
    server: Server, fault: Fault, direction: Direction, deadlines: Deadlines = HURRIED, **options: Any
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
        await measure_into(recorder, server.port, plan, deadlines, **options)
    assert raised.value.exit_status == 1
    if (method, fault.end) not in BEFORE_THE_TEST:
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
    file: dict[str, Any] = {"file": str(tmp_path / "received")} if method == "keep" else {}
    async with serving(HURRIED, **(file if end == SERVER else {})) as server:
        sentence, recorder = await fails(server, fault, direction, **(file if end == CLIENT else {}))
        await server.settled()
        assert fault.raised, sentence
        # The sentence names the transport, the stream, and the cause.
        assert "the transport faulty has a fault: " in sentence
        assert method in WITHOUT_STREAM or re.search(r"\bstream [13]: ", sentence)
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


def test_every_method_of_the_contract_is_in_a_case_or_left_out_for_a_reason() -> None:
    methods = {
        name
        for kind in (Transport, Channel)
        for name, member in vars(kind).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }
    in_a_case = {method for method, *_ in CASES}
    assert not in_a_case & NOT_IN_A_CASE.keys()
    # Two attributes of a channel may be properties that raise.
    assert in_a_case | NOT_IN_A_CASE.keys() == methods | {"first_data_us", "opening_us"}


@pytest.mark.parametrize("end", [CLIENT, SERVER])
async def test_a_fault_in_the_signs_of_a_silent_path_is_told(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other end does not go on once the test is over, so this end asks the channel for the reason."""
    fault = Fault("signs", end, END, TypeError("by mistake"))
    with_fault(monkeypatch, fault)

    async def served(test: ServedTest, *_: object) -> None:
        await test.scope.wait(asyncio.Event().wait(), None, "")

    async def client(_: object, test: RunningTest, greeted: Greeted) -> None:
        await test.happened(EndEvent.TIME_OVER)
        test.stop()
        await greeted.scope.wait(asyncio.Event().wait(), None, "")

    if end == CLIENT:
        monkeypatch.setattr(ServedTest, "_exchange", served)
    else:
        monkeypatch.setattr("iperfpy.endpoint.client._Client._measure", client)
    soon = replace(HURRIED, quiet_s=0.3)
    async with serving(soon if end == SERVER else HURRIED) as server:
        sentence, recorder = await fails(server, fault, Direction.FORWARD, soon if end == CLIENT else HURRIED)
        await server.settled()
    assert "stream 1: the transport faulty has a fault: TypeError: by mistake" in sentence
    assert sentence.startswith("the server says: ") is (end == SERVER)
    assert "has a fault" in server.tests[0].sentence or end == CLIENT
    assert recorder.end_rows[0].local.bytes > 0


async def test_a_fault_goes_before_the_interrupt_that_it_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt alone would end with status 0."""
    fault = Fault("remarks", CLIENT, END, TypeError("by mistake"))
    with_fault(monkeypatch, fault)
    plan = Plan("faulty", Settings(), block_bytes=1000, interval_us=100_000, duration_us=30_000_000)
    scope = AbortScope()
    recorder = Recorder(lambda: scope.abort(InterruptError("stopped")), after=2)
    async with serving(HURRIED) as server:
        options = ClientOptions("127.0.0.1", server.port)
        with pytest.raises(FaultError, match="TypeError: by mistake") as raised:
            await run_client(plan, options, [recorder], scope=scope, deadlines=HURRIED)
    assert recorder.sentence == str(raised.value)
    assert recorder.end_rows[0].local.bytes > 0


async def test_a_fault_of_this_program_in_the_record_of_the_end_loses_no_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by mistake")

    monkeypatch.setattr("iperfpy.endpoint.closing_report.findings_of", broken)
    plan = Plan("tcp", TcpSettings(), block_bytes=1000, duration_us=100_000)
    recorder = Recorder()
    async with serving(HURRIED) as server:
        with pytest.raises(
            FaultError, match="this program has a fault: ZeroDivisionError: by mistake"
        ) as raised:
            await measure_into(recorder, server.port, plan, HURRIED)
        await server.settled()
    for each in (recorder, server.tests[0]):
        assert "ZeroDivisionError" in each.sentence
        assert each.end_rows[0].local.bytes > 0
    assert recorder.sentence == str(raised.value)


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


@pytest.mark.parametrize(
    ("form", "method", "moment"),
    [
        *(([], "send", RUNNING), (["-J"], "send", RUNNING), (["--json-stream"], "send", RUNNING)),
        *(([], "remarks", END), (["-J"], "remarks", END)),
    ],
)
def test_the_command_line_says_it_in_one_sentence_with_status_1(
    form: list[str],
    method: str,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The client has the fault; its server runs in a thread of its own."""
    fault = Fault(method, CLIENT, moment, TypeError("misspelt"))
    with_fault(monkeypatch, fault)
    seconds = "30" if moment == RUNNING else "0.2"
    with served_in_a_thread() as port:
        status = main(["-c", "127.0.0.1", "-p", str(port), "--proto", "faulty", "-t", seconds, *form])
    out, errors = capsys.readouterr()
    sentence = "stream 1: the transport faulty has a fault: TypeError: misspelt (-d shows where)"
    assert status == 1
    # A JSON stream has the sentence in a line of its own, so that both outputs together can be parsed.
    assert errors == ("" if form == ["--json-stream"] else f"iperfpy: error - {sentence}\n")
    if form == ["-J"]:
        document = json.loads(out)
        assert document["error"] == sentence
        assert document["end"]["streams"], "what was measured is lost"
    elif form:
        assert [json.loads(line)["data"] for line in out.splitlines() if '"error"' in line] == [sentence]
    else:
        assert "iperfpy Done." not in out
        assert "receiver" in out, "what was measured is lost"
