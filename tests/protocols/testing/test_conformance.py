"""The checks fail a broken transport: one fault at a time in a transport that otherwise passes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from iperfpy.protocols.contract import (
    Channel,
    ClientPort,
    Delivery,
    Load,
    ServerPort,
    SocketAddress,
    Stream,
)
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit, Value
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.tcp import Tcp, TcpSettings
from iperfpy.protocols.testing import conformance
from iperfpy.protocols.testing.conformance import CHECKS, Check, Subject, name_of

pytestmark = pytest.mark.live


class Faulty(Channel):
    """A working channel, seen through one fault."""

    def __init__(self, inner: Channel) -> None:
        self.inner = inner

    def fileno(self) -> int:
        return self.inner.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self.inner.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self.inner.remote_address

    def counters(self) -> dict[str, Value]:
        return self.inner.counters()

    async def send(self, load: Load) -> None:
        await self.inner.send(load)

    async def receive(self) -> None:
        await self.inner.receive()

    def keep(self, write: Callable[[memoryview], None]) -> None:
        self.inner.keep(write)

    def wake(self) -> None:
        self.inner.wake()

    def wire_bytes(self) -> tuple[int, int] | None:
        return self.inner.wire_bytes()

    async def drain(self) -> None:
        await self.inner.drain()

    async def close(self) -> None:
        await self.inner.close()


class CountsTooMuch(Faulty):
    def counters(self) -> dict[str, Value]:
        record = super().counters()
        count = record["bytes"]
        assert isinstance(count, int)
        return record | {"bytes": count + 1}


class ForgetsAMetric(Faulty):
    def counters(self) -> dict[str, Value]:
        record = super().counters()
        record.pop("rtt_us", None)
        return record


class CountsBackwards(Faulty):
    calls = 0

    def counters(self) -> dict[str, Value]:
        self.calls += 1
        record = super().counters()
        return record | {key: 1_000_000 - self.calls for key in record if key == "segments_sent"}


class ZeroForUnknown(Faulty):
    def counters(self) -> dict[str, Value]:
        return super().counters() | {"congestion": 0}


class SendsTooLittle(Faulty):
    async def send(self, load: Load) -> None:
        load.take()
        await self.inner.send(load)


class DrainsNothing(Faulty):
    async def drain(self) -> None:
        await asyncio.sleep(0)

    def counters(self) -> dict[str, Value]:
        record = super().counters()
        return record | ({"bytes": 0} if "rtt_us" in record else {})


class IgnoresClose(Faulty):
    async def send(self, load: Load) -> None:
        await self.inner.send(load)
        await asyncio.sleep(30)


class ClosesSlowly(Faulty):
    async def close(self) -> None:
        await self.inner.close()
        await asyncio.sleep(1)


class WrongPeer(Faulty):
    @property
    def remote_address(self) -> SocketAddress:
        return ("127.0.0.9", 9)


class SleepsOn(Faulty):
    def wake(self) -> None:
        pass


class CountsNoWire(Faulty):
    def wire_bytes(self) -> tuple[int, int] | None:
        return 5, 5


class ImpossibleEvidence(Faulty):
    def evidence(self) -> PathEvidence | None:
        one = np.ones(3, np.int64)
        return PathEvidence(FlightBins(0, 1_000, one, one, one, 2 * one, np.ones(3)))


class EvidenceOfAnotherKind(Faulty):
    def evidence(self) -> PathEvidence | None:
        return {"loss_runs": 1}  # type: ignore[return-value]


class FaultyTcp(Tcp):
    fault: ClassVar[type[Faulty]] = Faulty

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        return self.fault(await super().connect(stream, settings, port))

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        return self.fault(await super().accept(stream, settings, port))


def broken(fault: type[Faulty]) -> Subject:
    transport = type("Broken", (FaultyTcp,), {"fault": fault})()
    return Subject(transport, TcpSettings(), deadline_s=2.0, prompt_s=0.3)


BOTH_WAYS = conformance.a_stream_that_goes_both_ways_echoes
EVIDENCE = conformance.evidence_is_optional_and_consistent
RECORDS = conformance.records_hold_every_metric_and_counters_never_fall


@pytest.mark.parametrize(
    ("fault", "check", "sentence"),
    [
        (CountsTooMuch, conformance.forward_bulk_is_counted_exactly, "counted 3000001 of 3000000 bytes"),
        (CountsTooMuch, conformance.close_twice_and_counters_stay, "counted 100001 of 100000 bytes"),
        (SendsTooLittle, conformance.reverse_bulk_is_counted_exactly, "counted 2984000 of 3000000 bytes"),
        (DrainsNothing, conformance.forward_bulk_is_counted_exactly, "counted 0 of 3000000 bytes"),
        (ForgetsAMetric, RECORDS, "of the sender lacks rtt_us"),
        (CountsBackwards, RECORDS, "segments_sent fell from 999999 to 999998"),
        (ZeroForUnknown, RECORDS, "congestion is 0"),
        (IgnoresClose, conformance.close_ends_a_blocked_send, r"send\(\) of a closed channel did not end"),
        (IgnoresClose, conformance.a_stopped_load_ends_send, "a load that has stopped did not end"),
        (ClosesSlowly, conformance.close_ends_a_waiting_receive, r"close\(\) of the receiver did not end"),
        (ImpossibleEvidence, EVIDENCE, "more packets arrived than left"),
        (EvidenceOfAnotherKind, EVIDENCE, "gave a dict, not PathEvidence"),
        (SleepsOn, BOTH_WAYS, "not finished within 2 s"),
        (CountsNoWire, BOTH_WAYS, r"wire_bytes\(\) is \(5, 5\)"),
        (WrongPeer, conformance.addresses_of_both_ends_agree, r"its peer says \('127.0.0.9', 9\)"),
    ],
)
def test_a_fault_is_found(fault: type[Faulty], check: Check, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(broken(fault))


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_the_same_wrapper_without_a_fault_passes(check: Check) -> None:
    check(Subject(FaultyTcp(), TcpSettings()))


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        ({"summary": ""}, "`summary` is empty"),
        ({"prefix": None}, "`prefix` must be str, not None"),
        ({"settings": dict}, r"`settings` must be type\[Settings\]"),
        ({"block_limits": (0, 10)}, "`block_limits` are"),
    ],
)
def test_an_incomplete_declaration_is_found(declaration: dict[str, object], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        conformance.declaration_is_complete(Subject(type("Incomplete", (Tcp,), declaration)(), TcpSettings()))


def limit(
    key: str,
    label: str,
    *,
    kind: Kind = Kind.COUNTER,
    side: Side = Side.SENDER,
    meaning: Meaning = Meaning.SENDER_LIMIT,
) -> Metric:
    """A time for which a limit held the sender."""
    return Metric(key, "One", Unit.MICROSECONDS, kind, side, meaning=meaning, label=label)


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ((Metric("bytes", "Payload"),), "`bytes` belongs to every transport"),
        ((Metric("a", "One"), Metric("a", "Two")), "two metrics share a key"),
        ((Metric("a", "One", title="T"), Metric("b", "Two", title="T")), "share a title"),
        ((Metric("a", ""),), "a has no description"),
        (
            (Metric("a", "One", kind=Kind.RATIO, numerator="b", denominator="c"),),
            "an operand of the ratio",
        ),
        (
            (Metric("a", "One", kind=Kind.MISSING, numerator="b", denominator="c"),),
            "not a counter of its end",
        ),
    ],
)
def test_inconsistent_metrics_are_found(metrics: tuple[Metric, ...], sentence: str) -> None:
    transport = type("Inconsistent", (Tcp,), {"metrics": metrics})()
    with pytest.raises(AssertionError, match=sentence):
        conformance.metrics_are_declared_consistently(Subject(transport, TcpSettings()))


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ((Metric("a", "One", label="send window"),), "a has a label and no meaning"),
        ((Metric("a", "One", meaning=Meaning.PATH_LOSS),), "must be in percent"),
        ((limit("a", ""),), "SENDER_LIMIT, has no label"),
        ((limit("a", "window", kind=Kind.GAUGE),), "must be a counter"),
        ((limit("a", "window", side=Side.RECEIVER),), "must be of the sender"),
        ((limit("a", "window"), limit("b", "window")), "share a label"),
        ((limit("a", "window", meaning=Meaning.SENDER_BUSY),), "a label, which nothing shows"),
        ((Metric("a", "One", Unit.BYTES, meaning=Meaning.FULL_PAYLOAD),), "must be a gauge"),
    ],
)
def test_inconsistent_meanings_are_found(metrics: tuple[Metric, ...], sentence: str) -> None:
    transport = type("Inconsistent", (Tcp,), {"metrics": metrics})()
    with pytest.raises(AssertionError, match=sentence):
        conformance.meanings_are_declared_consistently(Subject(transport, TcpSettings()))


def test_a_delivery_of_undeclared_counters_is_found() -> None:
    delivery = Delivery("units", "segments_sent", "known", "missing", "segments_received", "repeated")
    transport = type("Undeclared", (Tcp,), {"delivery": delivery})()
    with pytest.raises(AssertionError, match="`delivery` names a key"):
        conformance.metrics_are_declared_consistently(Subject(transport, TcpSettings()))


def test_a_transport_that_binds_the_servers_udp_port_is_found() -> None:
    class BindsTheSharedPort(Tcp):
        async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
            self.taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.taken.bind(port.local)
            return await super().accept(stream, settings, port)

    subject = Subject(transport := BindsTheSharedPort(), TcpSettings(), deadline_s=2.0)
    try:
        with pytest.raises(AssertionError, match="in use"):
            conformance.another_transport_works_beside_it(subject)
    finally:
        transport.taken.close()


def test_a_transport_that_raises_fails_with_its_own_error_as_the_cause() -> None:
    class Crashes(Tcp):
        async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
            raise KeyError("out of order")

    with pytest.raises(AssertionError, match="KeyError: 'out of order'") as caught:
        conformance.forward_bulk_is_counted_exactly(Subject(Crashes(), TcpSettings()))
    assert isinstance(caught.value.__cause__, KeyError)


def test_settings_that_lose_a_field_are_found() -> None:
    @dataclass(frozen=True, slots=True)
    class Forgetful(TcpSettings):
        def to_wire(self) -> dict[str, Any]:
            return {}

    class Forgets(Tcp):
        settings = Forgetful

    with pytest.raises(AssertionError, match="came back as"):
        conformance.settings_survive_the_wire(Subject(Forgets(), Forgetful()))
