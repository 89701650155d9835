"""`iperfpy kcp-peer` between two of its own ends over loopback: roles, modes, and failures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from iperfpy import Run
from iperfpy.endpoint import lone_test
from iperfpy.endpoint.lone_test import run_lone
from iperfpy.errors import InterruptError, IperfpyError, LateError, PathError, PeerError
from iperfpy.options import ClientOptions, LoneOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.kcp import bare_listener, size_search, smux_channel
from iperfpy.protocols.registry import transport
from iperfpy.records import UNANSWERED
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.store.direction_figures import about_test
from iperfpy.store.iperf3_document import Iperf3Document
from iperfpy.traffic import stream_echo
from tests.iperfpy.nat import behind_nat
from tests.iperfpy.support import Recorder, until

pytestmark = pytest.mark.live

SCHEMA = Draft202012Validator(json.loads((resources.files("iperfpy") / "report" / "schema.json").read_text()))
KEY = {"kcp": b"a secret of this test"}
ENVELOPE = {"fec": "4:2", "crypt": "aes-128-gcm"}
PATIENT, HURRIED = Deadlines(quiet_s=5.0, verdict_s=0.1), Deadlines(quiet_s=0.5, verdict_s=0.1)


def plan(name: str = "kcp", settings: dict[str, Any] | None = None, **more: Any) -> Plan:
    one = transport(name)
    chosen = one.settings(**(settings or {}))
    defaults: dict[str, Any] = {
        "duration_us": 0,
        "interval_us": 100_000,
        "block_bytes": one.block_bytes(chosen),
    }
    return Plan(name, chosen, **(defaults | more))


@dataclass
class Listener:
    """An end that listens. `port`: once it does."""

    recorder: Any = field(default_factory=Recorder)
    port: int = 0
    task: asyncio.Task[None] | None = None

    async def ended(self) -> None:
        assert self.task is not None
        await self.task


@asynccontextmanager
async def listening(
    chosen: Plan,
    deadlines: Deadlines = PATIENT,
    wait_us: int = 20_000_000,
    recorder: Any = None,
    **options: Any,
) -> AsyncIterator[Listener]:
    listener, ready = Listener(recorder or Recorder()), asyncio.Event()

    def on_listening(address: Any) -> None:
        listener.port = address[1]
        ready.set()

    end = ClientOptions("127.0.0.1", 0, secrets=KEY)
    listener.task = asyncio.create_task(
        run_lone(
            chosen,
            LoneOptions(end, listens=True, wait_us=wait_us, **options),
            [listener.recorder],
            transport=transport(chosen.transport),
            scope=AbortScope(),
            deadlines=deadlines,
            on_listening=on_listening,
        )
    )
    await asyncio.wait_for(ready.wait(), 10)
    try:
        yield listener
    finally:
        listener.task.cancel()
        await asyncio.gather(listener.task, return_exceptions=True)


async def dialled(
    port: int,
    chosen: Plan,
    recorder: Any,
    *,
    deadlines: Deadlines = PATIENT,
    scope: AbortScope | None = None,
    secrets: dict[str, bytes] | None = None,
    timeout_us: int = 5_000_000,
    **options: Any,
) -> None:
    end = ClientOptions(
        "127.0.0.1", port, connect_timeout_us=timeout_us, secrets=KEY if secrets is None else secrets
    )
    await run_lone(
        chosen,
        LoneOptions(end, **options),
        [recorder],
        transport=transport(chosen.transport),
        scope=scope or AbortScope(),
        deadlines=deadlines,
    )


# -- what is measured


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
@pytest.mark.parametrize("settings", [{}, ENVELOPE], ids=["bare", "enveloped"])
async def test_all_that_is_sent_to_a_sink_is_acknowledged_and_arrives(
    name: str, settings: dict[str, Any]
) -> None:
    sent = Recorder()
    async with listening(plan(name, settings), HURRIED) as sink:
        await dialled(sink.port, plan(name, settings, total_bytes=300_000), sent)
        await sink.ended()
    here, there = sent.end_rows[0], sink.recorder.end_rows[0]
    assert here.local.bytes == there.local.bytes == 300_000
    assert here.local.values["rtt_us"]
    assert here.peer is None
    assert there.peer is None
    assert sent.started is not None
    assert sent.started.role is Role.CLIENT
    assert not sent.started.peer_is_iperfpy
    # The silence by which the sink knew the end is in neither its time nor its intervals.
    assert sum(row.local.bytes for rows in sink.recorder.intervals for row in rows) == 300_000
    assert sink.recorder.intervals[-1][0].local.bytes


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
@pytest.mark.parametrize("settings", [{}, ENVELOPE], ids=["bare", "enveloped"])
async def test_a_source_sends_once_the_address_of_its_peer_is_proven(
    name: str, settings: dict[str, Any]
) -> None:
    got, back = Recorder(), {"direction": Direction.REVERSE, "total_bytes": 300_000}
    async with listening(plan(name, settings, **back)) as source:
        await dialled(source.port, plan(name, settings, **back), got)
        await source.ended()
    # The byte by which the address was proven is received, and was no payload of the source.
    assert source.recorder.end_rows[0].local.bytes == 300_000
    assert got.end_rows[0].local.bytes >= 300_000


async def test_an_echo_of_bulk_data_is_measured_in_both_directions() -> None:
    both = plan(direction=Direction.BIDIRECTIONAL, total_bytes=300_000)
    measured = Recorder()
    async with listening(plan(), HURRIED, echo=True) as echo:
        await dialled(echo.port, both, measured, echo=True)
        await echo.ended()
    there, back = measured.end_rows
    assert there.direction is Direction.FORWARD
    assert back.direction is Direction.REVERSE
    assert there.local.bytes == back.local.bytes == echo.recorder.end_rows[0].local.bytes == 300_000


async def test_returned_data_does_not_wait_for_the_size_of_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither end may take the silence of the other one for a path that carries no long datagrams."""
    monkeypatch.setattr(size_search, "OPENING_US", 60_000_000)
    both = plan(direction=Direction.BIDIRECTIONAL, total_bytes=300_000)
    measured = Recorder()
    async with listening(plan(), HURRIED, echo=True) as echo:
        await dialled(echo.port, both, measured, echo=True)
        await echo.ended()
    assert measured.ended is not None
    assert measured.ended.warnings == ()
    assert [row.local.bytes for row in measured.end_rows] == [300_000, 300_000]


async def test_messages_come_back_whole_and_each_has_its_round_trip() -> None:
    messages = plan(duration_us=400_000, messages_per_s=100, block_bytes=100, settings={"push": True})
    measured = Recorder()
    async with listening(plan(settings={"push": True}), HURRIED, echo=True) as echo:
        await dialled(echo.port, messages, measured, echo=True)
        await echo.ended()
    assert measured.ended is not None
    times = measured.ended.messages
    assert times is not None
    assert times.sent == 40
    assert (times.round_trip_us != UNANSWERED).all()


@pytest.mark.parametrize("direction", Direction)
async def test_the_document_of_either_end_follows_the_schema_and_is_readable(
    direction: Direction,
) -> None:
    both = direction is Direction.BIDIRECTIONAL
    chosen = plan(direction=direction, total_bytes=50_000)
    here, there = Iperf3Document(plan=chosen), Iperf3Document(plan=chosen)
    other = plan() if both else chosen
    async with listening(other, HURRIED, recorder=there, echo=both) as peer:
        await dialled(peer.port, chosen, here, echo=both)
        await peer.ended()
    for one in (here, there):
        document = json.loads(json.dumps(one.document))
        SCHEMA.validate(document)
        assert Run.from_document(document).total("bytes") >= 50_000
        assert about_test(document).directions


async def test_a_conversation_number_is_the_users_choice() -> None:
    measured = Recorder()
    async with listening(plan(), HURRIED, conv=77) as sink:
        with pytest.raises(LateError):
            await dialled(sink.port, plan(total_bytes=1000), Recorder(), conv=78, timeout_us=300_000)
        await dialled(sink.port, plan(total_bytes=1000), measured, conv=77)
        await sink.ended()
    assert measured.end_rows[0].local.bytes == 1000


@pytest.mark.parametrize("smux", [1, 2])
@pytest.mark.parametrize("settings", [{}, ENVELOPE], ids=["bare", "enveloped"])
async def test_a_sink_in_smux_gets_exactly_the_payload(smux: int, settings: dict[str, Any]) -> None:
    sent = Recorder()
    async with listening(plan("kcp", settings), HURRIED, smux=smux) as sink:
        await dialled(sink.port, plan("kcp", settings, total_bytes=3_000_000), sent, smux=smux)
        await sink.ended()
    assert sent.end_rows[0].local.bytes == sink.recorder.end_rows[0].local.bytes == 3_000_000
    assert sum(row.local.bytes for rows in sink.recorder.intervals for row in rows) == 3_000_000


@pytest.mark.parametrize("smux", [1, 2])
async def test_a_source_in_smux_sends_once_the_stream_is_open(smux: int) -> None:
    got, chosen = Recorder(), plan("kcp-bbr", direction=Direction.REVERSE, total_bytes=3_000_000)
    async with listening(chosen, smux=smux) as source:
        await dialled(source.port, chosen, got, smux=smux)
        await source.ended()
    assert got.end_rows[0].local.bytes == source.recorder.end_rows[0].local.bytes == 3_000_000


@pytest.mark.parametrize("smux", [1, 2])
async def test_an_echo_in_smux_returns_bulk_data_and_messages(smux: int) -> None:
    both, measured = plan(direction=Direction.BIDIRECTIONAL, total_bytes=300_000), Recorder()
    async with listening(plan(), Deadlines(quiet_s=1.5), echo=True, smux=smux) as echo:
        await dialled(echo.port, both, measured, echo=True, smux=smux)
        await echo.ended()
    assert [row.local.bytes for row in measured.end_rows] == [300_000, 300_000]
    push = {"push": True}
    messages = plan(duration_us=400_000, messages_per_s=100, block_bytes=100, settings=push)
    async with listening(plan(settings=push), Deadlines(quiet_s=1.5), echo=True, smux=smux) as echo:
        await dialled(echo.port, messages, measured := Recorder(), echo=True, smux=smux)
        await echo.ended()
    assert measured.ended is not None
    assert measured.ended.messages is not None
    assert (measured.ended.messages.round_trip_us != UNANSWERED).all()


async def test_keep_alives_of_smux_are_signs_of_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block every two seconds: without NOPs, the silence between would end the test."""
    monkeypatch.setattr(smux_channel, "KEEP_ALIVE_S", 0.05)
    slow, sent = plan(duration_us=2_500_000, rate_bps=4_000, block_bytes=1_000), Recorder()
    async with listening(plan(), Deadlines(quiet_s=1.2), smux=1) as sink:
        await dialled(sink.port, slow, sent, smux=1)
        await sink.ended()
    assert sent.end_rows[0].local.bytes == sink.recorder.end_rows[0].local.bytes == 2_000


async def test_a_peer_that_does_not_speak_smux_is_named() -> None:
    async with listening(plan(), smux=1, wait_us=3_000_000) as sink:
        sending = asyncio.create_task(dialled(sink.port, plan(), Recorder()))
        with pytest.raises(IperfpyError, match="something that is not smux"):
            await sink.ended()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


# -- what goes wrong


async def test_nobody_at_the_address_is_a_sentence() -> None:
    recorder = Recorder()
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(LateError, match=r"no KCP peer answered at .* within 0.3 s: does it listen"):
            await dialled(silent.getsockname()[1], plan(total_bytes=1), recorder, timeout_us=300_000)
        port = silent.getsockname()[1]
    assert recorder.errors
    with pytest.raises(PeerError, match=r"127.0.0.1 port \d+ refuses UDP datagrams"):
        await dialled(port, plan(total_bytes=1), Recorder())


async def test_another_key_is_named_at_the_end_that_listens(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that decrypts nothing answers nothing, so the other end can only say what must be equal."""
    other, settings = {"kcp": b"another secret of this test"}, {"crypt": "aes-128-gcm"}
    same = r"with --kcp-crypt aes-128-gcm and its key, and no forward"
    async with listening(plan(settings=settings), wait_us=2_500_000) as sink:
        chosen = plan(settings=settings, total_bytes=1)
        with pytest.raises(LateError, match=same):
            await dialled(sink.port, chosen, Recorder(), secrets=other, timeout_us=1_500_000)
        with pytest.raises(LateError, match=r"no KCP peer has come within .*nothing .* can be decrypted"):
            await sink.ended()
    assert caplog.text.count("is the key (--kcp-key) the same at both ends?") == 1
    assert "decrypted" in sink.recorder.sentence


async def test_forward_error_correction_of_the_peer_alone_is_named() -> None:
    async with listening(plan(), wait_us=2_500_000) as sink:
        chosen = plan(settings={"fec": "4:2"}, total_bytes=1)
        with pytest.raises(LateError):
            await dialled(sink.port, chosen, Recorder(), timeout_us=1_500_000)
        with pytest.raises(LateError, match=r"the peer sends with forward error correction"):
            await sink.ended()


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_a_peer_that_goes_away_ends_the_test_and_loses_nothing(direction: Direction) -> None:
    recorder = Recorder()
    chosen = plan(direction=direction, duration_us=60_000_000, rate_bps=20_000_000)
    async with listening(replace(chosen, interval_us=0)) as peer:
        dialling = asyncio.create_task(dialled(peer.port, chosen, recorder, deadlines=HURRIED))
        await until(lambda: len(recorder.intervals) >= 2)
    with pytest.raises(LateError, match=r"nothing has come from the KCP peer since"):
        await dialling
    assert recorder.ended is not None
    assert recorder.ended.failed
    assert recorder.end_rows[0].local.bytes > 0


async def test_an_echo_that_cannot_return_the_data_in_time_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_echo, "MOST_WAITING_BYTES", 1_000)
    both = plan(direction=Direction.BIDIRECTIONAL, total_bytes=300_000)
    async with listening(plan(), echo=True) as echo:
        dialling = asyncio.create_task(dialled(echo.port, both, Recorder(), echo=True))
        with pytest.raises(PathError, match="the way back is slower than the peer sends"):
            await echo.ended()
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
    assert echo.recorder.ended is not None
    assert "the way back is slower" in echo.recorder.ended.interrupted


async def test_an_interrupt_keeps_what_was_measured() -> None:
    scope = AbortScope()
    recorder = Recorder(
        lambda: scope.abort(InterruptError("the client has terminated by signal Interrupt(2)"))
    )
    async with listening(plan()) as peer:
        with pytest.raises(InterruptError):
            await dialled(peer.port, plan(), recorder, scope=scope)
    assert recorder.ended is not None
    assert not recorder.ended.failed
    assert recorder.end_rows[0].local.bytes > 0


async def test_an_interrupt_before_a_peer_came_measured_nothing() -> None:
    recorder, scope = Recorder(), AbortScope()
    running = run_lone(
        plan(),
        LoneOptions(ClientOptions("127.0.0.1", 0), listens=True),
        [recorder],
        transport=transport("kcp"),
        scope=scope,
        on_listening=lambda address: scope.abort(InterruptError("stopped")),
    )
    with pytest.raises(PathError, match="nothing was measured: stopped"):
        await running
    assert recorder.errors


async def test_a_port_in_use_is_a_sentence() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        options = LoneOptions(ClientOptions("127.0.0.1", taken.getsockname()[1]), listens=True)
        with pytest.raises(IperfpyError, match="in use"):
            await run_lone(plan(), options, [Recorder()], transport=transport("kcp"), scope=AbortScope())


# -- strangers


async def test_garbage_from_strangers_is_dropped_and_the_peer_is_measured() -> None:
    recorder = Recorder()
    async with listening(plan(), HURRIED) as sink:
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            for size in (1, 23, 24, 100, 1400) * 5:
                stranger.sendto(os.urandom(size), ("127.0.0.1", sink.port))
            await dialled(sink.port, plan(total_bytes=100_000), recorder)
            await sink.ended()
            assert not waiting_bytes(stranger)
    assert sink.recorder.end_rows[0].local.bytes == 100_000


def waiting_bytes(sock: socket.socket) -> int:
    """Bytes of the datagrams that wait in a socket that does not block."""
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += len(sock.recv(2_000))
    return size


def wask(conv: int) -> bytes:
    """A window probe: a valid first datagram, of a peer that then does nothing."""
    return conv.to_bytes(4, "little") + bytes([83, 0, 128, 0]) + bytes(16)


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_a_peer_that_does_not_go_on_loses_its_place(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lone_test, "FIRST_S", 0.2)
    monkeypatch.setattr(bare_listener, "PROOF_S", 0.2)
    recorder, chosen = Recorder(), plan(direction=direction, total_bytes=50_000)
    async with listening(replace(chosen, total_bytes=50_000)) as peer:
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.sendto(wask(5), ("127.0.0.1", peer.port))
            await dialled(peer.port, chosen, recorder)
            await peer.ended()
            answers = waiting_bytes(stranger)
    assert answers <= 24
    assert recorder.end_rows[0].local.bytes >= 50_000


async def test_strangers_do_not_lengthen_the_sentence_without_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    came = iter(range(50))

    async def accepted(self: object, *stream_and_port: object) -> None:
        number = next(came, None)
        if number is None:
            await asyncio.Event().wait()
        raise PeerError(f"192.0.2.{number} opened a stream, and did not acknowledge its first byte")

    monkeypatch.setattr(lone_test._LoneTest, "_accepted", accepted)
    async with listening(plan(), wait_us=100_000) as peer:
        with pytest.raises(LateError) as failed:
            await peer.ended()
    assert str(failed.value).count("opened a stream") == lone_test.MOST_DOUBTS
    assert caplog.text.count("opened a stream") == lone_test.MOST_DOUBTS


async def test_a_second_peer_gets_nothing_while_the_first_is_measured() -> None:
    first = Recorder()
    async with listening(plan(), HURRIED) as sink:
        running = asyncio.create_task(
            dialled(sink.port, plan(duration_us=800_000, rate_bps=10_000_000), first)
        )
        await until(lambda: len(first.intervals) >= 1)
        with pytest.raises(LateError):
            await dialled(sink.port, plan(total_bytes=1), Recorder(), timeout_us=300_000)
        await running
        await sink.ended()
    assert sink.recorder.end_rows[0].local.bytes >= first.end_rows[0].local.bytes


# -- another address


ELSEWHERE = "may have another address: datagrams of its stream came from one, and were dropped"


def told(recorder: Any) -> str:
    """The warnings of a test that is over."""
    assert recorder.ended is not None
    return "; ".join(recorder.ended.warnings)


@pytest.mark.parametrize("crypt", [None, "salsa20", "aes"])
async def test_a_peer_that_may_have_moved_is_a_warning(crypt: str | None) -> None:
    """A NAT gives it another port, and nothing proves that the datagrams from there are the peer's."""
    chosen = plan(settings={"crypt": crypt}, duration_us=10_000_000, rate_bps=2_000_000)
    async with (
        listening(plan(settings={"crypt": crypt}), HURRIED) as sink,
        behind_nat(sink.port) as nat,
    ):
        sending = asyncio.create_task(dialled(nat.port, chosen, Recorder()))
        await until(lambda: bool(sink.recorder.intervals))
        nat.rebind()
        await asyncio.wait_for(sink.ended(), 15)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert sink.recorder.end_rows[0].local.bytes > 0
    assert f"127.0.0.1 {ELSEWHERE} (127.0.0.1 port " in told(sink.recorder)


async def test_silence_at_the_old_address_names_the_new_one() -> None:
    chosen = plan(duration_us=20_000_000, rate_bps=2_000_000)
    async with listening(chosen, HURRIED) as sink, behind_nat(sink.port) as nat:
        sending = asyncio.create_task(dialled(nat.port, chosen, Recorder()))
        await until(lambda: bool(sink.recorder.intervals))
        nat.rebind()
        with pytest.raises(LateError, match=f"nothing has come from the KCP peer .*; 127.0.0.1 {ELSEWHERE}"):
            await asyncio.wait_for(sink.ended(), 15)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_forged_datagrams_of_the_conversation_end_nothing() -> None:
    """Anybody who knows the number of the conversation can send them, also once the peer has finished."""
    sent, chosen = Recorder(), plan(duration_us=1_000_000, rate_bps=2_000_000)
    async with listening(plan(), HURRIED, conv=77) as sink:
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            running = asyncio.create_task(dialled(sink.port, chosen, sent, conv=77))
            await until(lambda: bool(sink.recorder.intervals))
            assert sink.task is not None
            while not sink.task.done():
                stranger.sendto(wask(77), ("127.0.0.1", sink.port))
                await asyncio.sleep(0.02)
            await sink.ended()
            await running
            assert not waiting_bytes(stranger)
            address = f"(127.0.0.1 port {stranger.getsockname()[1]})"
    assert sink.recorder.end_rows[0].local.bytes >= sent.end_rows[0].local.bytes > 0
    warnings = told(sink.recorder)
    assert warnings.count(ELSEWHERE) == warnings.count(address) == 1


@pytest.mark.parametrize("smux", [0, 1])
async def test_a_sender_that_moves_is_followed_by_its_cipher(smux: int) -> None:
    settings, sent = {"crypt": "aes-128-gcm", "fec": "4:2"}, Recorder()
    chosen = plan(settings=settings, total_bytes=800_000, rate_bps=3_000_000)
    async with (
        listening(plan(settings=settings), Deadlines(quiet_s=2.0), smux=smux) as sink,
        behind_nat(sink.port) as nat,
    ):
        sending = asyncio.create_task(dialled(nat.port, chosen, sent, smux=smux))
        for moves in (1, 2):
            await until(lambda: len(sink.recorder.intervals) >= 3 * moves)  # noqa: B023 - awaited here
            nat.rebind()
        await asyncio.wait_for(sending, 20)
        await sink.ended()
    assert nat.mappings == 3
    assert sent.end_rows[0].local.bytes == sink.recorder.end_rows[0].local.bytes == 800_000
    moved = r"127\.0\.0\.1 went on from another address \(127\.0\.0\.1 port \d+\), 2 times"
    assert re.search(moved, told(sink.recorder))


async def test_an_echo_follows_a_peer_that_moves() -> None:
    """It sends data, which waits for the proof of the new address."""
    settings = {"push": True, "crypt": "aes-128-gcm"}
    messages = plan(duration_us=2_000_000, messages_per_s=50, block_bytes=100, settings=settings)
    measured = Recorder()
    async with (
        listening(plan(settings=settings), Deadlines(quiet_s=2.0), echo=True) as echo,
        behind_nat(echo.port) as nat,
    ):
        measuring = asyncio.create_task(dialled(nat.port, messages, measured, echo=True))
        await until(lambda: len(echo.recorder.intervals) >= 5)
        nat.rebind()
        await asyncio.wait_for(measuring, 20)
        await echo.ended()
    assert nat.mappings == 2
    assert measured.ended is not None
    assert measured.ended.messages is not None
    assert (measured.ended.messages.round_trip_us != UNANSWERED).all()


async def test_copies_of_encrypted_datagrams_move_nothing() -> None:
    """Somebody on the way sends them again, from elsewhere: they are not newer, and nothing answers them."""
    settings, sent, copies = {"crypt": "aes-128-gcm"}, Recorder(), list[bytes]()
    chosen = plan(settings=settings, total_bytes=500_000, rate_bps=3_000_000)

    def copied(inside: bool, datagram: bytes) -> bool:
        if inside:
            copies.append(datagram)
        return False

    async with listening(plan(settings=settings), HURRIED) as sink, behind_nat(sink.port) as nat:
        nat.drop = copied
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            sending = asyncio.create_task(dialled(nat.port, chosen, sent))
            while not sending.done():
                await asyncio.sleep(0.05)
                for datagram in copies[:-50]:
                    stranger.sendto(datagram, ("127.0.0.1", sink.port))
                del copies[:-50]
            await sending
            await sink.ended()
            assert not waiting_bytes(stranger)
    assert sent.end_rows[0].local.bytes == sink.recorder.end_rows[0].local.bytes == 500_000
    assert "another" not in told(sink.recorder)
