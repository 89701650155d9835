"""Ends of a stream without a control connection, in virtual time: an unproven address gets no more bytes than
came from it, and settings of the peer that do not fit are named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_counts import Counts
from iperfpy.protocols.kcp.envelope.bare_engine import FORGOTTEN_US, MOST_STAMPS, BareEngine, UnprovenEngine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings, SharedSettings
from iperfpy.protocols.kcp.size_range import SizeRange
from tests.protocols.kcp.ends import ACK, CONV, PUSH, WINS, Sink, batches, parse, push, seg

RANDOM = random.Random(1)
SECRET = b"a secret of this test"
STEP_US = 5_000
SETTINGS = [
    KcpSettings(),
    KcpBbrSettings(),
    KcpSettings(fec="1:1", crypt="xor"),
    KcpBbrSettings(fec="10:3", crypt="none"),
]


def stock(settings: SharedSettings, sink: Sink | None = None) -> Engine:
    # As in the channel, the engine follows the size of datagrams: its probes are long.
    sizes = SizeRange.of(1_500, ipv6=False, envelope_bytes=settings.envelope_bytes)
    if isinstance(settings, KcpBbrSettings):
        return engine_factory.with_bbr(CONV, settings, sink, ack_ranges=False, boundaries=True, sizes=sizes)
    assert isinstance(settings, KcpSettings)
    return engine_factory.stock(CONV, settings, sink, boundaries=True, sizes=sizes)


def listener(settings: SharedSettings, *, sends: bool, sink: Sink | None = None) -> UnprovenEngine:
    layers = layers_of(settings, SECRET, RANDOM.randbytes)
    return UnprovenEngine(stock(settings, sink), layers, RANDOM.randbytes, sends=sends)


def dialler(settings: SharedSettings, sink: Sink | None = None) -> BareEngine:
    return BareEngine(stock(settings, sink), layers_of(settings, SECRET, RANDOM.randbytes))


def leaving(end: EnvelopedEngine, now_us: int) -> list[bytes]:
    return [datagram.tobytes() for batch in end.transmit(now_us) for datagram in batch]


def deliver(end: EnvelopedEngine, datagrams: list[bytes], now_us: int) -> None:
    for batch in batches(datagrams):
        end.receive(batch, now_us)


class Dialogue:
    """A dialler and a listener, one step of time after the other. `sent`, `came`: bytes of the listener."""

    def __init__(self, there: EnvelopedEngine, here: UnprovenEngine) -> None:
        self.there, self.here = there, here
        self.sent = self.came = 0
        self.now_us = 1_000_000

    def step(self, drop: Callable[[bytes], bool] = lambda datagram: False) -> None:
        """Let both transmit. `drop`: datagrams of the listener that get lost."""
        self.now_us += STEP_US
        asked = leaving(self.there, self.now_us)
        self.came += sum(map(len, asked))
        deliver(self.here, asked, self.now_us)
        answers = leaving(self.here, self.now_us)
        self.sent += sum(map(len, answers))
        deliver(self.there, [one for one in answers if not drop(one)], self.now_us + STEP_US // 2)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("request_bytes", [0, 1, 700])
def test_a_source_sends_no_more_than_came_until_the_address_is_proven(
    settings: SharedSettings, request_bytes: int
) -> None:
    """The peer asks by a window probe, which it repeats, or by data."""
    sink = Sink()
    here, there = listener(settings, sends=True), dialler(settings, sink)
    talk = Dialogue(there, here)
    here.write_opening(talk.now_us)
    if request_bytes:
        there._engine.write(memoryview(bytes(request_bytes)), talk.now_us)
    for round_ in range(200):
        if not request_bytes and not round_ % 20:
            there._engine.probe()
        talk.step()
        assert here.proven or talk.sent <= talk.came
        if here.proven:
            break
    assert here.proven
    assert sink.data == b"\0"
    assert here.figures()["bytes"] == 0
    # From now on data flows as on any stream.
    left = 100_000
    for _ in range(400):
        left -= here._engine.write(memoryview(bytes(left)), talk.now_us)
        talk.step()
    assert len(sink.data) == 100_001
    assert here.figures()["bytes"] == 100_000
    assert talk.sent > talk.came


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_echo_sends_no_more_than_came_until_the_address_is_proven(settings: SharedSettings) -> None:
    received, returned = Sink(), Sink()
    here, there = listener(settings, sends=True, sink=received), dialler(settings, returned)
    talk, echoed = Dialogue(there, here), 0
    there._engine.write(memoryview(b"a message of sixteen bytes or more"), talk.now_us)
    for round_ in range(400):
        talk.step()
        assert here.proven or talk.sent <= talk.came
        # The program is slow to take the first message, and its echo is no part of the acknowledgement.
        if round_ > 2:
            echoed += here._engine.write(memoryview(bytes(received.data[echoed:])), talk.now_us)
    assert here.proven
    assert returned.data == received.data == b"a message of sixteen bytes or more"


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_dialler_learns_the_size_of_datagrams_before_its_address_is_proven(
    settings: SharedSettings,
) -> None:
    """An echo answers probes of the path, which come before the first data; its own ones do not leave."""
    here, there = listener(settings, sends=True), dialler(settings)
    talk = Dialogue(there, here)
    for end in (there, here):
        end._engine.search_size(talk.now_us)
    for _ in range(200):
        talk.step()
        assert talk.sent <= talk.came
    sizes = there._engine.sizes
    assert sizes is not None
    assert sizes.opened
    assert sizes.size == sizes.range.largest
    assert not here.proven


def test_any_segment_of_a_long_flight_proves_the_address() -> None:
    here = listener(KcpSettings(sndwnd=1_024, rcvwnd=1_024), sends=True)
    now_us = 1_000_000
    deliver(here, [push(sn, bytes(1_000), ts=5) for sn in range(1_000)], now_us)
    here._engine.write(memoryview(bytes(900_000)), now_us)
    sent = [one for datagram in leaving(here, now_us) for one in parse(datagram) if one.cmd == PUSH]
    assert len(sent) > MOST_STAMPS
    deliver(here, [seg(ACK, ts=sent[0].ts, sn=0, una=0)], now_us)
    assert here.proven


def test_a_lost_answer_is_repeated_within_the_bytes_that_came() -> None:
    settings = KcpSettings()
    here, there = listener(settings, sends=True), dialler(settings)
    talk = Dialogue(there, here)
    here.write_opening(talk.now_us)
    there._engine.write(memoryview(b"?"), talk.now_us)
    for _ in range(100):
        talk.step(drop=lambda datagram: True)
        assert talk.sent <= talk.came
    assert not here.proven
    for _ in range(400):
        talk.step()
        assert here.proven or talk.sent <= talk.came
    assert here.proven


def forged_answers(count: int) -> Iterator[bytes]:
    """Acknowledgements of the first segment with every stamp that a clock would have given, and others."""
    for stamp in range(count):
        yield seg(ACK, ts=1_000_000 + stamp, sn=0, una=1)


def test_an_address_is_not_proven_by_stamps_of_a_known_clock() -> None:
    """The peer never got the first segment: a sender with a forged address can only guess."""
    here = listener(KcpSettings(), sends=True)
    now_us = 1_000_000
    deliver(here, [push(0, b"?" * 100, ts=5)], now_us)
    here.write_opening(now_us)
    sent = leaving(here, now_us)
    assert sent
    stamps = [one.ts for datagram in sent for one in parse(datagram) if one.cmd == PUSH]
    assert stamps
    assert stamps[0] != now_us & 0xFFFF_FFFF
    deliver(here, list(forged_answers(2_000)), now_us)
    assert not here.proven
    deliver(here, [seg(ACK, ts=stamps[0], sn=0, una=1)], now_us)
    assert here.proven


def test_a_flood_before_the_proof_costs_little_work_and_memory() -> None:
    here = listener(KcpSettings(), sends=True)
    now_us = 1_000_000
    deliver(here, [push(0, b"?" * 1_000, ts=5)], now_us)
    for round_ in range(300):
        here.write_opening(now_us)
        leaving(here, now_us + round_ * 300_000)
        deliver(here, [push(0, b"?" * 1_000, ts=5)], now_us)
    assert len(here._stamps) <= MOST_STAMPS


def test_a_sink_acknowledges_and_never_sends_more_than_came() -> None:
    settings = KcpSettings()
    here, there = listener(settings, sends=False), dialler(settings)
    talk = Dialogue(there, here)
    for _ in range(60):
        there._engine.write(memoryview(bytes(20_000)), talk.now_us)
        talk.step()
        assert talk.sent <= talk.came
    assert not here.proven
    assert here._engine.receiving.bytes > 500_000


def test_datagrams_that_are_held_back_are_not_counted_as_sent() -> None:
    here = listener(KcpSettings(), sends=True)
    here._engine.write(memoryview(bytes(50_000)), 1_000_000)
    deliver(here, [push(0, b"?", ts=5)], 1_000_000)
    assert not leaving(here, 1_000_000)
    assert here._engine.counts.wire_bytes_sent == 0
    assert here._engine.counts.datagrams_sent == 0


def test_a_datagram_that_is_taken_back_does_not_stand_for_one_with_data() -> None:
    """The figures count datagrams from the first data on."""
    counts, probe = Counts(), DatagramBatch.of(np.zeros(100, np.uint8), 100)
    counts.leave([probe])
    counts.never_left([probe])
    counts.segments_sent = 1
    counts.leave([probe])
    assert counts.datagrams_sent - counts.sent_before_data == 1


def test_forward_error_correction_of_the_peer_is_named_to_an_end_without() -> None:
    """Its datagrams look foreign: the engine drops them."""
    here, there = dialler(KcpSettings()), dialler(KcpSettings(fec="10:3"))
    there._engine.write(memoryview(bytes(10_000)), 0)
    deliver(here, leaving(there, 0), 0)
    with pytest.raises(StreamPeerError, match=r"sends with forward error correction.*--kcp-fec 10:3"):
        _ = here.understands


def test_another_geometry_of_the_peer_is_a_warning_and_data_arrives() -> None:
    sink = Sink()
    here, there = dialler(KcpSettings(fec="4:2"), sink), dialler(KcpSettings(fec="10:3"))
    there._engine.write(memoryview(bytes(20_000)), 0)
    there._engine.uncork()
    deliver(here, leaving(there, 0), 0)
    assert here.understands
    assert sink.data
    assert any("the peer has another setting" in text for text in here.warnings())


@pytest.mark.parametrize(("own", "named"), [("10:3", "8:2"), ("auto:10:3", "auto:8:2")])
def test_a_geometry_of_the_peer_that_was_found_is_named(own: str, named: str) -> None:
    """Its losses are restored from then on. Until then, the warning has to say that they are not."""
    sink = Sink()
    here, there = dialler(KcpSettings(fec=own), sink), dialler(KcpSettings(fec="8:2"))
    now_us, found = 0, list[str]()
    for turn in range(400):
        now_us += STEP_US
        there._engine.write(memoryview(bytes(3_000)), now_us)
        sent = leaving(there, now_us)
        deliver(here, [one for one in sent if turn < 200 or RANDOM.random() >= 0.05], now_us)
        deliver(there, leaving(here, now_us), now_us)
        found += [text for text in here.warnings() if text not in found]
    figures = here.figures()
    assert figures["fec_recovered"]
    assert "the peer has another setting" in found[0]
    assert here.warnings() == (
        f"the peer has sets of 8:2, which were found after {figures['fec_unusable']} datagrams;"
        f" give --kcp-fec {named}",
    )


def test_a_garbled_datagram_of_a_peer_with_the_same_sets_is_no_other_setting() -> None:
    here, there = dialler(KcpSettings(fec="10:3")), dialler(KcpSettings(fec="10:3"))
    garbled = bytes([0, 0, 0, 0, 0xF2, 0]) + bytes(60)  # a data datagram's number with the type of parity
    now_us = 0
    for turn in range(200):
        now_us += STEP_US
        there._engine.write(memoryview(bytes(12_000)), now_us)
        deliver(here, [*leaving(there, now_us), *([garbled] if turn == 20 else [])], now_us)
        deliver(there, leaving(here, now_us), now_us)
    assert here.warnings() == ("dropped 1 datagram that did not fit the sets of --kcp-fec",)


def test_a_peer_without_forward_error_correction_is_a_warning_and_data_arrives() -> None:
    here, there = dialler(KcpSettings(fec="4:2")), dialler(KcpSettings())
    there._engine.write(memoryview(bytes(60_000)), 0)
    deliver(here, leaving(there, 0), 0)
    assert here.understands
    assert any("without forward error correction" in text for text in here.warnings())


def test_garbage_is_no_sign_of_the_peer() -> None:
    here = dialler(KcpSettings())
    deliver(here, [RANDOM.randbytes(100) for _ in range(20)], 0)
    assert not here.understands
    deliver(here, [seg(WINS)], 0)
    assert here.understands


@pytest.mark.parametrize("doubt", ["", "does it run with --nocomp?"])
def test_a_peer_that_has_forgotten_the_conversation_is_named(doubt: str) -> None:
    """A kcp-go that has closed its session takes the next segment for the beginning of another one, and waits
    for its first ones, which never come."""
    end, now_us = dialler(KcpSettings()), 1_000_000
    end.doubt, engine = doubt, end._engine
    engine.write(memoryview(bytes(50_000)), now_us)
    leaving(end, now_us)
    deliver(end, [seg(ACK, sn=9, una=10)], now_us)
    assert engine.sending.una == 10
    for _ in range(20):  # old datagrams that come late, between those that go on
        now_us += 100_000
        deliver(end, [seg(WINS, una=3)], now_us)
        deliver(end, [seg(WINS, una=10)], now_us)

    def answered() -> None:
        for at in range(20):
            deliver(end, [seg(ACK, sn=20, una=0)], now_us + 100_000 * at)

    forgotten = rf"has forgotten .* or was restarted.*{doubt[:5]}"
    assert not end.warnings()
    with pytest.raises(StreamPeerError, match=forgotten):
        answered()
    assert not end.warnings()  # it has been said


def test_a_peer_that_has_perhaps_forgotten_the_conversation_is_a_warning() -> None:
    """A short test may end before it has answered often enough."""
    end = dialler(KcpSettings())
    end._engine.write(memoryview(bytes(50_000)), 0)
    leaving(end, 0)
    deliver(end, [seg(ACK, sn=9, una=10)], 0)
    deliver(end, [seg(ACK, sn=20, una=0)], 100_000)
    deliver(end, [seg(ACK, sn=20, una=0)], 100_000 + FORGOTTEN_US - 1)
    assert not end.warnings()
    deliver(end, [seg(ACK, sn=20, una=0)], 100_000 + FORGOTTEN_US)
    assert any("has closed its session, or was restarted" in sentence for sentence in end.warnings())
    deliver(end, [seg(WINS, una=10)], 1_000_000)
    assert not end.warnings()


# -- a peer that moves to another address


def moving(crypt: str = "aes-128-gcm") -> UnprovenEngine:
    settings = KcpSettings(crypt=crypt)
    layers = layers_of(settings, SECRET, RANDOM.randbytes)
    return UnprovenEngine(stock(settings, Sink()), layers, RANDOM.randbytes, sends=True, follows=True)


def greeted() -> tuple[UnprovenEngine, BareEngine, Dialogue]:
    """An end that follows its peer, the peer, and their dialogue, of which some round trips are over."""
    here, there = moving(), dialler(KcpSettings(crypt="aes-128-gcm"), Sink())
    dialogue = Dialogue(there, here)
    for _ in range(4):
        here.write_opening(dialogue.now_us)
        there._engine.write(memoryview(bytes(2_000)), dialogue.now_us)
        dialogue.step()
    return here, there, dialogue


def test_a_datagram_is_newer_by_its_stamp_or_by_what_it_acknowledges() -> None:
    here, there = moving(), dialler(KcpSettings(crypt="aes-128-gcm"))
    dialogue = Dialogue(there, here)
    assert not here.is_newer(push(0, b"x", ts=2_000_000))  # nothing has come to compare it with
    there._engine.write(memoryview(bytes(5_000)), dialogue.now_us)
    for _ in range(5):
        dialogue.step()
    latest_us = here._latest_us
    assert latest_us is not None
    assert here.is_newer(push(0, b"x", ts=latest_us + 1))
    assert here.is_newer(push(0, b"x", ts=latest_us + 10) + seg(ACK))
    for old in (latest_us, latest_us - 1, latest_us - 2**31 + 1, latest_us + 2**31):
        assert not here.is_newer(push(0, b"x", ts=old & 0xFFFF_FFFF))
    # Acknowledgements echo this end's stamps, so that only the cumulative one tells the time.
    una = here._engine.sending.una
    here._engine.write(memoryview(bytes(3_000)), dialogue.now_us)
    here._engine.transmit(dialogue.now_us)
    assert here.is_newer(seg(ACK, sn=una, una=una + 1))
    assert not here.is_newer(seg(ACK, sn=una, una=una))
    assert not here.is_newer(seg(ACK, sn=una, una=una + 1000))
    assert not here.is_newer(b"")


def test_an_address_after_a_move_gets_no_more_than_came_until_it_answers() -> None:
    here, there, dialogue = greeted()
    assert here.proven
    here.move()
    here._engine.write(memoryview(bytes(100_000)), dialogue.now_us)
    dialogue.sent = dialogue.came = 0
    assert leaving(here, dialogue.now_us) == []
    for _ in range(5):  # what is sent to the new address gets lost
        there._engine.write(memoryview(bytes(100)), dialogue.now_us)
        dialogue.step(drop=lambda datagram: True)
        assert dialogue.sent <= dialogue.came
    assert not here.proven
    for _ in range(100):
        if here._engine.sending.una == here._engine.sending.end:
            break
        there._engine.write(memoryview(bytes(100)), dialogue.now_us)
        dialogue.step()
    assert here.proven
    assert dialogue.sent > 100_000


def test_a_proof_is_found_with_more_arrivals_in_a_round_trip_than_stamps_are_remembered() -> None:
    here, there, dialogue = greeted()
    here.move()
    asked, now_us = list[bytes](), dialogue.now_us
    for _ in range(3 * MOST_STAMPS):  # one round trip of 192 ms
        now_us += 1_000
        there._engine.write(memoryview(bytes(100)), now_us)
        deliver(here, leaving(there, now_us), now_us)
        asked += leaving(here, now_us)
    assert len(asked) > MOST_STAMPS
    assert not here.proven
    deliver(there, asked[:1], now_us)
    deliver(here, leaving(there, now_us), now_us)
    assert here.proven
