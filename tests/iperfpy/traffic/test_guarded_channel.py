"""The border to a transport: every call of the contract is guarded, whatever it raises."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from iperfpy.errors import FaultError, IperfpyError, PathError, PeerError, PlanError, fault_of, guarding
from iperfpy.protocols import errors as transport_errors
from iperfpy.protocols.contract import Channel
from iperfpy.traffic import guarded_channel
from iperfpy.traffic.guarded_channel import GuardedChannel

CALLS = sorted(name for name in vars(Channel) if not name.startswith("_"))
ACTS = {"send", "receive", "drain", "keep", "wake", "returned"}
ARGUMENTS: dict[str, tuple[object, ...]] = {"send": (None,), "keep": (print,), "signs": (0,)}
MISTAKES = [
    *(TypeError("a misspelt call"), RuntimeError(), StopIteration("x"), AssertionError("never")),
    *(asyncio.CancelledError("by mistake"), SystemExit(3), BaseException("anything")),
]


def raising(error: BaseException) -> Channel:
    """A channel that raises `error` in every call."""

    def fail(*_: object) -> Any:
        raise error

    async def fail_later(*_: object) -> Any:
        raise error

    later = {"send", "receive", "drain", "close"}
    asked = {name for name in CALLS if not callable(vars(Channel)[name])}
    members = {
        name: property(fail) if name in asked else fail_later if name in later else fail for name in CALLS
    }
    kind = type("Raising", (Channel,), members)
    channel: Channel = kind()
    return channel


def guarded(channel: Channel, faults: list[FaultError]) -> GuardedChannel:
    return GuardedChannel(channel, "mine", "stream 3", faults.append)


async def call(channel: Channel, name: str) -> object:
    member = getattr(channel, name)
    result = member(*ARGUMENTS.get(name, ())) if callable(member) else member
    return await result if asyncio.iscoroutine(result) else result


@pytest.mark.parametrize(
    ("name", "said"), [("keep", "to a file"), ("returned", "no stream that goes both ways")]
)
async def test_a_transport_that_lacks_an_optional_call_is_no_fault(name: str, said: str) -> None:
    faults: list[FaultError] = []
    plain = type("Plain", (raising(RuntimeError()).__class__,), {name: vars(Channel)[name]})
    with pytest.raises(PlanError, match=said):
        await call(guarded(plain(), faults), name)
    assert not faults


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_the_contract_is_guarded(name: str) -> None:
    """A new method of the contract must pass through the guard: inherited, it would not reach the channel."""
    assert name in vars(GuardedChannel)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("error", MISTAKES, ids=lambda error: type(error).__name__)
async def test_a_mistake_in_any_call_is_a_fault_that_names_stream_and_cause(
    name: str, error: BaseException
) -> None:
    faults: list[FaultError] = []
    channel = guarded(raising(error), faults)
    if name in ACTS:
        with pytest.raises(FaultError) as raised:
            await call(channel, name)
        if name == "wake":  # in a thread of the transport: `receive` reports the fault
            faults.append(raised.value)
            channel.fault = raised.value
    else:
        await call(channel, name)
    assert channel.fault is faults[0]
    sentence = str(faults[0])
    # Python turns an exception that ends an iterator into a RuntimeError if a coroutine raises it.
    cause = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert sentence.startswith("stream 3: the transport mine has a fault: ")
    assert cause in sentence or type(error).__name__ in sentence
    assert faults[0].__cause__ is not None


async def test_the_last_known_counters_remain() -> None:
    class Fades(Channel):
        """Counts once, then fails."""

        fileno = receive = drain = close = send = local_address = remote_address = None  # type: ignore[assignment]
        asked = 0

        def counters(self) -> dict[str, int | float | str | None]:
            self.asked += 1
            if self.asked > 1:
                raise KeyError("gone")
            return {"bytes": 700, "rtt_us": 5}

    faults: list[FaultError] = []
    channel = guarded(Fades(), faults)
    first = channel.counters()
    first["bytes"] = 0  # a caller's own copy
    assert channel.counters() == channel.counters() == {"bytes": 700, "rtt_us": 5}
    assert len(faults) == 2


@pytest.mark.parametrize("record", [None, {}, {"bytes": "7"}, {"bytes": None}, 7])
async def test_counters_that_are_no_record_are_a_fault(record: object) -> None:
    channel = raising(KeyError())
    channel.counters = lambda: record  # type: ignore[method-assign,assignment,return-value]
    faults: list[FaultError] = []
    assert guarded(channel, faults).counters() == {"bytes": 0}
    assert "TypeError" in str(faults[0])


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (transport_errors.TransportError("no room"), PathError, "stream 3: no room"),
        (transport_errors.SettingsError("too long"), PlanError, "stream 3: too long"),
        (OSError(13, "not allowed"), PathError, "stream 3: not allowed"),
        (TimeoutError(), PathError, "stream 3: TimeoutError"),
        (PeerError("stream 3: closed"), PeerError, "stream 3: closed"),
    ],
)
async def test_an_error_that_is_raised_on_purpose_keeps_its_sentence(
    error: Exception, kind: type[IperfpyError], sentence: str
) -> None:
    faults: list[FaultError] = []
    with pytest.raises(kind) as raised:
        await guarded(raising(error), faults).receive()
    assert str(raised.value) == sentence
    assert not faults


async def test_a_cancellation_of_this_program_stays_one() -> None:
    faults: list[FaultError] = []

    class Waits(Channel):
        fileno = counters = drain = close = send = local_address = remote_address = None  # type: ignore[assignment]

        async def receive(self) -> None:
            await asyncio.sleep(60)

    task = asyncio.create_task(guarded(Waits(), faults).receive())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not faults


async def test_a_channel_that_does_not_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_channel, "CLOSE_S", 0.01)
    let_go = asyncio.Event()

    class Stubborn(Channel):
        fileno = counters = drain = receive = send = local_address = remote_address = None  # type: ignore[assignment]

        async def close(self) -> None:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue

    faults: list[FaultError] = []
    await guarded(Stubborn(), faults).close()
    let_go.set()
    await asyncio.sleep(0)
    assert "RuntimeError: close() did not return within 0.01 s" in str(faults[0])


def test_a_check_is_guarded_without_an_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(FaultError, match=r"^the transport mine has a fault: KeyError: 'x'"),
        guarding("mine"),
    ):
        raise KeyError("x")
    # -d shows where.
    assert "Traceback" in caplog.text


class Odd(Exception):  # noqa: N818 - a transport's own
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("two\nlines \x1b[31m"), "ValueError: two lines  [31m"),
        (ValueError("x" * 5000), f"ValueError: {'x' * 300}"),
        (Odd(), "Odd"),
    ],
)
def test_a_cause_is_one_short_line(error: Exception, cause: str) -> None:
    assert str(fault_of(error)) == f"this program has a fault: {cause} (-d shows where)"
