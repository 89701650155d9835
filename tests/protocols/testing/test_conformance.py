"""The battery refuses what is broken: one fault at a time in a transport that otherwise passes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from iperfpy.protocols.contract import Channel, ClientPort, Load, ServerPort, SocketAddress, Stream
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.tcp import Tcp, TcpSettings
from iperfpy.protocols.testing import conformance
from iperfpy.protocols.testing.conformance import Check, Subject


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


class SaysAnotherPeer(Faulty):
    @property
    def remote_address(self) -> SocketAddress:
        return ("127.0.0.9", 9)


class FaultyTcp(Tcp):
    fault: ClassVar[type[Faulty]] = Faulty

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        return self.fault(await super().connect(stream, settings, port))

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        return self.fault(await super().accept(stream, settings, port))


def broken(fault: type[Faulty]) -> Subject:
    return Subject(type("Broken", (FaultyTcp,), {"fault": fault})(), TcpSettings())


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (CountsTooMuch, conformance.forward_bulk_is_counted_exactly),
        (CountsTooMuch, conformance.close_twice_and_counters_stay),
        (SendsTooLittle, conformance.reverse_bulk_is_counted_exactly),
        (DrainsNothing, conformance.forward_bulk_is_counted_exactly),
        (ForgetsAMetric, conformance.records_hold_every_metric_and_counters_never_fall),
        (CountsBackwards, conformance.records_hold_every_metric_and_counters_never_fall),
        (ZeroForUnknown, conformance.records_hold_every_metric_and_counters_never_fall),
        (IgnoresClose, conformance.close_ends_a_blocked_send),
        (IgnoresClose, conformance.a_stopped_load_ends_send),
        (ClosesSlowly, conformance.close_ends_a_waiting_receive),
        (SaysAnotherPeer, conformance.addresses_of_both_ends_agree),
    ],
)
async def test_a_fault_is_found(fault: type[Faulty], check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "DEADLINE_S", 2.0)
    monkeypatch.setattr(conformance, "PROMPT_S", 0.3)
    with pytest.raises((AssertionError, TimeoutError, pytest.fail.Exception)):
        await check(broken(fault))


async def test_the_same_wrapper_without_a_fault_passes() -> None:
    await conformance.forward_bulk_is_counted_exactly(broken(Faulty))
    await conformance.close_ends_a_blocked_send(broken(Faulty))


async def test_settings_that_lose_a_field_are_found() -> None:
    @dataclass(frozen=True, slots=True)
    class Forgetful(TcpSettings):
        def to_wire(self) -> dict[str, Any]:
            return {}

    class Forgets(Tcp):
        settings = Forgetful

    with pytest.raises(AssertionError):
        await conformance.settings_survive_the_wire(
            Subject(Forgets(), Forgetful(), changed=Forgetful(nodelay=True))
        )
