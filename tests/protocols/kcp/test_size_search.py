"""The size of datagrams follows the path (RFC 8899), in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.buffer_sizes import BufferSizes
from iperfpy.protocols.kcp.kcp_metrics import record
from iperfpy.protocols.kcp.load_feeder import LoadFeeder
from iperfpy.protocols.kcp.parts import MOST_PARTS, MOST_SEGMENTS, Part, PartialSegments, split
from iperfpy.protocols.kcp.path_size import PathSize
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.kcp.size_range import SizeRange
from iperfpy.protocols.kcp.size_search import SizeSearch
from iperfpy.protocols.path_events import PathEvents, Sign
from iperfpy.protocols.simulator import Change
from iperfpy.protocols.testing.loopback import BlockLoad
from tests.protocols.kcp.ends import Recount, ack, batch, datagrams_of, parse, push
from tests.protocols.kcp.sized import RTT_US, Sized, make, path

JUMBO = SizeRange(1_400, 8_972)
KINDS = pytest.mark.parametrize("kind", ["kcp", "kcp-bbr"])


# ------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("packet", "ipv6", "first", "largest"),
    [
        (None, False, 1_400, 8_972),
        (1_280, False, 1_252, 1_252),
        (1_280, True, 1_232, 1_232),
        (1_420, False, 1_392, 1_392),
        (1_420, True, 1_372, 1_372),
        (1_500, False, 1_400, 1_400),
        (9_000, False, 1_400, 8_972),
        (9_000, True, 1_400, 8_952),
        (65_536, False, 1_400, 1_400),
        (300, False, 548, 548),
    ],
)
def test_the_range_follows_the_packet_size(packet: int | None, ipv6: bool, first: int, largest: int) -> None:
    found = SizeRange.of(packet, ipv6=ipv6)
    assert (found.first, found.largest) == (first, largest)


@pytest.mark.parametrize(
    ("packet", "ipv6", "whole", "tried"),
    [
        (1_500, False, True, 1_472),
        (1_500, True, True, 1_452),
        (1_420, False, True, 1_392),
        (1_500, False, False, 1_400),
        (9_000, False, True, 8_972),
        (65_536, False, True, 1_400),
        (None, False, True, 8_972),
    ],
)
def test_the_announced_size_is_tried(packet: int | None, ipv6: bool, whole: bool, tried: int) -> None:
    assert SizeRange.of(packet, ipv6=ipv6, whole=whole).tried == tried


@pytest.mark.parametrize(
    ("packet", "whole", "one_per_call", "largest"),
    [
        (65_536, True, True, 8_972),  # memory, where each datagram costs a call
        (0xFFFF_FFFF, True, True, 8_972),
        (65_536, True, False, 1_400),
        (9_000, True, False, 8_972),
        (1_500, True, True, 1_400),
        (None, True, True, 8_972),
        # A fragmented probe would arrive as well.
        (None, False, True, 1_400),
        (9_000, False, True, 1_400),
        (65_536, False, True, 1_400),
    ],
)
def test_long_datagrams_are_searched_where_they_can_be_proven_and_are_worth_it(
    packet: int | None, whole: bool, one_per_call: bool, largest: int
) -> None:
    found = SizeRange.of(packet, ipv6=False, whole=whole, one_per_call=one_per_call)
    assert (found.first, found.largest) == (1_400, largest)


# ------------------------------------------------------------------ probes


@KINDS
def test_a_probe_is_a_segment_that_has_arrived_before(kind: str) -> None:
    """A stock peer acknowledges it and drops its payload; in `frg` this program's peers see what it is."""
    engine = make(kind, SizeRange())
    engine.search_size(1_000)
    probes = [seg for one in datagrams_of(engine.transmit(1_000)) for seg in parse(one) if seg.cmd == 81]
    assert [len(each.payload) + 24 for each in probes] == [1_400, 1_200]
    assert {each.sn for each in probes} == {0xFFFF_FFFF}
    assert {each.frg for each in probes} == {255}
    assert len({each.ts for each in probes}) == 2


@KINDS
def test_a_probe_is_acknowledged_and_counts_nowhere(kind: str) -> None:
    sender, receiver = make(kind, JUMBO), make(kind, JUMBO)
    sender.search_size(1_000)
    for one in sender.transmit(1_000):
        receiver.receive(one, 2_000)
    answers = receiver.transmit(2_000)
    for one in answers:
        sender.receive(one, 3_000)
    sender.transmit(3_000)
    assert sender.sizes is not None
    assert sender.sizes.opened
    assert sender.sending.mtu == 8_972
    assert receiver.receiving.duplicates == receiver.receiving.segments == receiver.receiving.refused == 0
    assert sender.counts.segments_sent == sender.rtt.samples == 0


@KINDS
def test_a_peer_of_a_fixed_size_proves_no_larger_one(kind: str) -> None:
    """An iperfpy of version 0.1.0 takes segments of 1,376 bytes: it refuses a larger probe."""
    flow = Sized(kind, JUMBO, path(), peer=SizeRange.of_user(1_400, ipv6=False))
    flow.run(1.0)
    assert flow.sender.sending.mtu == 1_400
    flow.assert_intact()


def test_without_an_answer_the_size_stays_and_data_leaves() -> None:
    """A path that carries nothing back: the search ends, and the first data leaves all the same."""
    flow = Sized("kcp-bbr", SizeRange(), path(down=True))
    flow.run(5.0)
    assert flow.sender.sizes is not None
    assert flow.sender.sizes.opened
    assert flow.sender.sizes.hole is None
    assert flow.sender.sending.mtu == 1_200
    assert flow.sender.counts.segments_sent > 0


# ------------------------------------------------------------------ paths


@KINDS
@pytest.mark.parametrize(("maxlen", "found"), [(1_252, 1_252), (1_240, 1_232), (560, 548)])
def test_a_path_that_drops_long_datagrams_silently(kind: str, maxlen: int, found: int) -> None:
    flow = Sized(
        kind, SizeRange(1_400, 1_400, header_bytes=48 if found == 1_232 else 28), path(maxlen=maxlen)
    )
    flow.run(1.0)
    assert flow.sender.sending.mtu == found
    flow.assert_intact()
    # Only probes were too long, at most three of each candidate.
    assert flow.flow.forward.truth.too_long <= 40


@pytest.mark.slow
def test_the_limit_is_reached_over_a_silent_path() -> None:
    flow = Sized("kcp-bbr", SizeRange(), path(maxlen=1_252))
    assert flow.share(2.0, 6.0) > 0.93


def test_a_path_for_jumbo_frames_gets_them() -> None:
    flow = Sized("kcp-bbr", JUMBO, path())
    assert flow.share(1.0, 3.0) > 0.93
    assert flow.sender.sending.mtu == 8_972


@KINDS
@pytest.mark.parametrize("sizes", [SizeRange(), JUMBO])
def test_a_path_that_shrinks_in_mid_test_is_ridden_through(kind: str, sizes: SizeRange) -> None:
    """Found within 10 round trips by the loss of data; segments that are cut already travel in parts."""
    shrinks_us = 1_000_000
    flow = Sized(kind, sizes, path(changes=(Change(shrinks_us, {"maxlen": 1_252}),)))
    flow.run(2.0)
    assert flow.sender.sizes is not None
    change = flow.sender.sizes.changes[-1]
    assert (change.before, change.after, change.lost) == (sizes.largest, 1_252, True)
    # The queue of one BDP doubles the round trip.
    assert change.at_us - shrinks_us <= 10 * 2 * RTT_US
    before = flow.receiver.receiving.bytes
    flow.run(3.0)
    assert flow.receiver.receiving.bytes > before + 250_000
    # All long segments have left: new ones lie as close as datagrams again, and leave without copies.
    window = flow.sender.sending
    assert (
        {block.width for block, *_ in window.packets.runs(window.una, window.end)} == {window.mtu} == {1_252}
    )
    assert Recount.of(flow.sender).in_flight == flow.sender.recovery.in_flight
    flow.assert_intact()


@pytest.mark.slow
def test_losses_of_too_long_segments_are_not_congestion() -> None:
    """The controller starts anew, and hears nothing of the segments that the black hole took."""
    flow = Sized("kcp-bbr", SizeRange(), path(changes=(Change(2_000_000, {"maxlen": 1_252}),)))
    flow.run(2.0)
    before = flow.sender.control
    flow.run(2.6)
    assert flow.sender.control is not before
    assert flow.sender.delivery.lost <= 0
    assert flow.share(4.0, 6.0) > 0.93


@KINDS
@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize(
    ("maxlen", "found"), [(1_472, 1_472), (1_430, 1_422), (1_400, 1_400), (1_252, 1_252)]
)
def test_a_size_that_only_tcp_uses_is_searched_beside_the_data(
    kind: str, maxlen: int, found: int, loss: float
) -> None:
    """Data begins one round trip after the probes, in datagrams of the usual size."""
    ethernet = SizeRange.of(1_500, ipv6=False)
    flow = Sized(kind, ethernet, path(maxlen=maxlen, loss=loss))
    flow.run(0.065)
    assert flow.sender.sizes is not None
    if not loss and maxlen >= 1_400:
        assert flow.sender.counts.segments_sent > 0
    flow.run(2.0)
    assert (flow.sender.sizes.tried, flow.sender.sizes.passed) == (1_472, found)
    assert flow.sender.sending.mtu == min(found, 1_400)
    assert flow.sender.sizes.changes == []
    flow.assert_intact()


def _first_flight() -> SizeSearch:
    """A search over Ethernet with its first flight on the way; the stamp of a probe is its size."""
    search = SizeSearch(SizeRange.of(1_500, ipv6=False))
    search.begin(0)
    for size in search.poll(0, 0, 0, 0):
        search.sent(size, size, 0)
    return search


def test_a_size_that_the_network_names_is_no_black_hole() -> None:
    search = _first_flight()
    search.hint(1_422, 10_000)
    for size in search.poll(10_000, 0, 0, 0):
        search.sent(size, 10_000 + size, 10_000)
    search.echoed(1_400, 20_000)
    assert search.poll(20_000, 0, 0, 0) == []
    assert (search.opened, search.size) == (True, 1_400)
    search.echoed(11_422, 30_000)
    assert search.poll(30_000, 0, 0, 20_000) == []
    assert (search.tried, search.passed, search.busy) == (1_422, 1_422, False)


@KINDS
@pytest.mark.parametrize(("named", "tried"), [(False, 1_472), (True, 1_292)])
def test_a_path_that_shrinks_is_a_black_hole_unless_the_network_names_it(
    kind: str, named: bool, tried: int
) -> None:
    ethernet = SizeRange.of(1_500, ipv6=False)
    flow = Sized(kind, ethernet, path(changes=(Change(500_000, {"maxlen": 1_292}),)))
    search = flow.sender.sizes
    assert search is not None
    for now_us in range(550_000, 3_000_000, 50_000):
        flow.run(now_us / 1e6)
        if named:  # a router answers each long packet
            search.hint(1_292, now_us)
    assert search.hole == (1_400, 1_292)
    assert (search.tried, search.passed) == (tried, 1_292)


def test_a_hint_after_the_echo_of_a_longer_probe_is_no_limit() -> None:
    search = _first_flight()
    search.echoed(1_400, 20_000)
    search.hint(600, 20_500)
    search.poll(20_500, 0, 0, 20_000)
    assert (search.size, search.tried, search.passed) == (1_400, 1_400, 1_400)


def test_a_search_that_was_not_judged_has_tried_nothing() -> None:
    """One probe may be lost by chance, and the test may end before the next flight, or the path."""
    search = _first_flight()
    search.echoed(1_400, 40_000)
    search.echoed(1_200, 41_000)
    search.poll(41_000, 0, 0, 40_000)
    assert (search.opened, search.passed, search.tried) == (True, 1_400, None)
    for now_us in range(60_000, 5_000_000, 20_000):  # an outage
        search.poll(now_us, 0, 0, 40_000)
    assert not search.busy
    assert search.tried is None


def test_a_hint_that_comes_again_starts_no_further_flight() -> None:
    """A machine that refuses each probe as too long says so for each."""
    search = _first_flight()
    probes = 0
    for now_us in range(1_000, 41_000, 100):
        search.hint(1_400, now_us)
        probes += len(search.poll(now_us, 0, 0, 40_000))
    assert probes <= 4


def test_a_hint_beyond_the_sizes_of_data_hides_none_of_them() -> None:
    """The path drops long packets silently behind the router that names a larger size."""
    search, now_us = _first_flight(), 10_000
    search.hint(1_422, now_us)
    while not search.opened:
        for at, size in enumerate(search.poll(now_us, 0, 0, 20_000)):
            search.sent(size, now_us + at, now_us)
            if size <= 1_300:
                search.echoed(now_us + at, now_us + 20_000)
        now_us += 25_000
    assert (search.size, search.passed, search.tried) == (1_292, 1_292, 1_422)


def test_a_forged_hint_ends_with_the_echo_of_a_longer_probe() -> None:
    search = _first_flight()
    search.hint(600, 10_000)
    for at, size in enumerate(search.poll(10_000, 0, 0, 0)):
        search.sent(size, 10_000 + at, 10_000)
    search.echoed(1_400, 20_000)
    search.poll(20_000, 0, 0, 20_000)
    search.echoed(1_472, 21_000)
    search.poll(21_000, 0, 0, 20_000)
    assert (search.size, search.passed, search.tried) == (1_400, 1_472, 1_472)


def test_data_proves_its_size_again_after_a_doubt() -> None:
    search = SizeSearch(SizeRange.of_user(1_400, ipv6=False))
    search.poll(0, 5, 5, 20_000)
    for at, size in enumerate(search.poll(400_000, 5, 5, 20_000)):
        search.sent(size, at, 400_000)
        if size <= 1_252:
            search.echoed(at, 420_000)
    assert search.passed == 1_252
    search.poll(search.at_us, 9, 5, 20_000)
    assert search.passed == 1_400


@KINDS
def test_a_peer_that_refuses_long_segments_is_no_black_hole(kind: str) -> None:
    """An iperfpy of version 0.1.0 takes segments of 1,376 bytes, and joins no parts."""
    flow = Sized(kind, SizeRange.of(1_500, ipv6=False), path(), peer=SizeRange.of_user(1_400, ipv6=False))
    for peer_takes_parts, expected in ((False, (None, None)), (True, (1_472, 1_400))):
        flow.sender._outbound.splits = peer_takes_parts
        flow.run(1.0)
        flow.sender._outbound.splits = peer_takes_parts
        found = record(flow.sender, 1_000_000)
        assert (found["mtu_tried_bytes"], found["mtu_passed_bytes"]) == expected


@KINDS
def test_an_outage_is_no_black_hole(kind: str) -> None:
    changes = (Change(500_000, {"down": True}), Change(2_500_000, {"down": False}))
    flow = Sized(kind, SizeRange(), path(changes=changes))
    flow.run(4.0)
    assert flow.sender.sizes is not None
    assert flow.sender.sizes.hole is None
    assert flow.sender.sending.mtu == 1_400


@pytest.mark.slow
def test_random_loss_is_no_black_hole() -> None:
    flow = Sized("kcp-bbr", SizeRange(), path(loss=0.3))
    flow.run(4.0)
    assert flow.sender.sizes is not None
    assert flow.sender.sizes.hole is None
    assert flow.sender.sending.mtu >= 1_352


@KINDS
def test_a_size_that_the_user_chose_is_kept_and_its_black_hole_named(kind: str) -> None:
    flow = Sized(kind, SizeRange.of_user(1_400, ipv6=False), path(maxlen=1_252))
    flow.run(2.0)
    assert flow.sender.sizes is not None
    assert flow.sender.sizes.hole == (1_400, 1_252)
    assert flow.sender.sending.mtu == 1_400


# ------------------------------------------------------------------ hints


def test_a_hint_is_tried_and_not_believed() -> None:
    """A forged ICMP message changes nothing while the present size passes."""
    search = SizeSearch(SizeRange())
    search.begin(0)
    for size in search.poll(0, 0, 0, 0):
        search.sent(size, size, 0)
    assert search.echoed(1_400, 20_000) == 20_000
    assert search.poll(20_000, 0, 0, 20_000) == []
    assert search.size == 1_400
    search.hint(600, 30_000)
    flight = search.poll(30_000, 5, 5, 20_000)
    assert flight == []  # data was acknowledged since the last look
    search.hint(600, 40_000)
    flight = search.poll(40_000, 5, 5, 20_000)
    assert flight.count(1_400) == 2
    for at, size in enumerate(flight):
        search.sent(size, 10_000 + at, 40_000)
    search.echoed(10_000, 60_000)  # the first of the two of 1,400 bytes
    search.poll(search.at_us, 5, 5, 20_000)
    assert search.size == 1_400
    assert search.hole is None


class _UntoldPath:
    """A path on a system that does not tell its limit, and refuses one datagram as too long."""

    def __init__(self) -> None:
        self.events = PathEvents()
        self.sizes = self

    def longest(self) -> int | None:
        return None


@KINDS
def test_a_refusal_without_a_size_leaves_the_usual_one_and_one_round_trip(kind: str) -> None:
    """The interface refuses the long probe. The search ends with the echo of the usual size."""
    engine, path = make(kind, JUMBO), _UntoldPath()
    size = PathSize(engine, path)  # type: ignore[arg-type]  # all that it needs
    size.to_search = True
    size.check(1_000)
    probes = [seg for one in datagrams_of(engine.transmit(1_000)) for seg in parse(one) if seg.cmd == 81]
    assert [len(each.payload) + 24 for each in probes] == [8_972, 1_400, 1_200]
    path.events.add(Sign.TOO_LONG)
    size.check(2_000)
    engine.transmit(2_000)
    assert not size.is_known
    engine.receive(batch(ack(0xFFFF_FFFF, probes[1].ts, conv=7)), 40_000)
    engine.transmit(40_000)
    assert size.is_known
    assert engine.sending.mtu == 1_400


@pytest.mark.parametrize("sends", [False, True])
def test_the_buffer_is_asked_for_the_largest_size_and_needed_for_the_one_in_use(sends: bool) -> None:
    engine = make("kcp", JUMBO)
    buffers = BufferSizes(engine, None, sends=sends)
    assert buffers.asked == 4 << 20  # the least
    assert buffers.needed == 64 * 1_400
    buffers.granted = 200_000
    assert buffers.warning() == ()
    if sends:
        engine.sending.set_mtu(8_972)
    else:
        engine.receive(batch(push(0, bytes(8_948), conv=7)), 1_000)
    assert buffers.needed == 64 * 8_972
    assert "574208" in buffers.warning()[0]
    engine.sending.set_mtu(1_400)
    assert "574208" in buffers.warning()[0]


def test_a_tick_finds_a_whole_window_of_long_datagrams() -> None:
    engine = engine_factory.stock(7, KcpSettings(sndwnd=512, write_delay=True), sizes=JUMBO)
    engine.sending.set_mtu(8_972)
    feeder = LoadFeeder(engine)
    feeder.begin(BlockLoad(8 << 20, 1 << 16))
    assert not feeder.feed(0, 1 << 20)
    assert engine.sending.queued == 512


# ------------------------------------------------------------------ parts


def test_parts_join_in_any_order_and_across_cuts() -> None:
    packets = np.arange(2 * 1_400, dtype=np.uint8).reshape(2, 1_400)
    joiner = PartialSegments()
    first = datagrams_of(split(packets[1:], 600))
    second = datagrams_of(split(packets[1:], 900))
    parts = [parse(datagram)[0] for datagram in [first[0], *reversed(second)]]
    joined = []
    for part in parts:
        offset = int.from_bytes(part.payload[:2], "little")
        piece = Part(9, 1, offset, 1_376, np.frombuffer(part.payload[4:], np.uint8))
        joined.append(joiner.join(piece, 9, 10, 1_376))
    assert [each is not None for each in joined] == [False, False, True]
    assert joined[-1] is not None
    assert joined[-1].tobytes() == packets[1, 24:].tobytes()
    assert joiner.held_bytes == 0


def test_a_peer_that_claims_lengths_gets_no_memory_for_them() -> None:
    joiner, one = PartialSegments(), np.zeros(1, np.uint8)
    for number in range(2 * MOST_SEGMENTS):
        for offset in range(1, 2 * MOST_PARTS):
            assert joiner.join(Part(number, 0, 2 * offset, 8_948, one), 0, 65_535, 8_948) is None
            if number:
                break
    assert joiner.held_bytes == MOST_SEGMENTS - 1 + MOST_PARTS


def test_acks_of_data_beside_an_echo_count() -> None:
    """A datagram with the echo of a probe and the ACK of data: both are taken."""
    engine = make("kcp-bbr", SizeRange())
    engine.search_size(1_000)
    sent = [seg for one in datagrams_of(engine.transmit(1_000)) for seg in parse(one) if seg.cmd == 81]
    assert engine.write(memoryview(bytes(1_176)), 1_000)
    data = [seg for one in datagrams_of(engine.transmit(2_000)) for seg in parse(one) if seg.cmd == 81]
    echo = ack(0xFFFF_FFFF, sent[0].ts, conv=7)
    engine.receive(batch(echo + ack(0, data[0].ts, 1, conv=7)), 20_000)
    assert engine.sending.una == 1
    assert engine.rtt.samples == 1
    engine.transmit(20_000)
    assert engine.sending.mtu == 1_400


def test_a_push_with_the_mark_of_a_probe_and_new_data_is_data() -> None:
    engine = make("kcp", SizeRange())
    engine.receive(batch(push(0, b"data", frg=255, conv=7)), 1_000)
    assert engine.receiving.bytes == 4
