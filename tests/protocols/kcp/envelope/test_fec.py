"""Forward error correction in batches: byte for byte the packets of kcp-go, and nothing is lost that it can
restore."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterable
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope import fec_decoder
from iperfpy.protocols.kcp.envelope.fec import Fec
from iperfpy.protocols.kcp.envelope.fec_decoder import FecDecoder
from iperfpy.protocols.kcp.envelope.fec_encoder import FecEncoder
from iperfpy.protocols.kcp.envelope.fec_header import FecCounts
from iperfpy.protocols.kcp.envelope.fec_numbers import Consecutive
from iperfpy.protocols.kcp.envelope.layer import Opened
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from tests.protocols.kcp.ends import batches, examples
from tests.protocols.kcp.envelope.slow_fec import SlowEncoder, sealed

USUAL = Geometry(10, 3)


def paws(geometry: Geometry) -> int:
    """Sequence numbers before they begin anew: the name of kcp-go."""
    return Consecutive(geometry).sets * geometry.shards


def run_of(payloads: list[bytes]) -> DatagramBatch:
    """One batch: all of one length, but for a shorter last one."""
    return DatagramBatch.of(np.frombuffer(b"".join(payloads), np.uint8), len(payloads[0]))


def packets(sent: Iterable[DatagramBatch]) -> list[bytes]:
    return [datagram.tobytes() for batch in sent for datagram in batch]


def random_run(rng: random.Random) -> list[bytes]:
    size = rng.choice((24, 100, 1392))
    run = [rng.randbytes(size) for _ in range(rng.choice((1, 1, 2, 3, 15, 40)))]
    return [*run, rng.randbytes(rng.randrange(1, size))] if rng.random() < 0.3 else run


def received(decoder: FecDecoder | Fec, wire: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The datagrams that arrive, and those that are recovered, if the wire is read in batches."""
    longest = 180
    arrived: list[bytes] = []
    recovered: list[bytes] = []
    for at in range(0, len(wire), longest):
        for batch in batches(wire[at : at + longest]):
            opened = decoder.open(batch, 0)
            arrived += packets(opened.arrived)
            recovered += packets(opened.recovered)
    return arrived, recovered


def test_the_bytes_of_a_small_set() -> None:
    encoder = FecEncoder(Geometry(2, 1), FecCounts())
    sent = encoder.seal([run_of([bytes.fromhex("010203")]), run_of([bytes.fromhex("0a0b0c0d0e")])], 0)
    assert [packet.hex() for packet in packets(sent)] == [
        "00000000f1000500010203",
        "01000000f10007000a0b0c0d0e",
        "02000000f200010017101d1a1c",
    ]


@pytest.mark.parametrize("seed", range(8))
def test_any_batches_leave_as_kcp_go_sends_them_packet_by_packet(seed: int) -> None:
    """Runs begin and end anywhere in a set, lengths differ within it, and pauses leave parity out."""
    rng = random.Random(seed)
    geometry = rng.choice((Geometry(1, 1), Geometry(2, 3), Geometry(3, 1), USUAL, USUAL))
    first = rng.choice((0, paws(geometry) - geometry.shards))  # the numbers begin anew
    encoder, slow = FecEncoder(geometry, FecCounts(), first), SlowEncoder(*geometry, first)
    now_ms = 0
    for _ in range(8):
        now_ms += rng.choice((1, 499, 500, 2_000))
        runs = [random_run(rng) for _ in range(rng.choice((1, 2, 4)))]
        expected = sealed(slow, [payload for run in runs for payload in run], now_ms)
        assert packets(encoder.seal([run_of(run) for run in runs], now_ms * 1000)) == expected


def test_a_run_of_whole_datagrams_leaves_as_one_batch() -> None:
    """Segmentation offload then takes it in one call; also if it begins within a set."""
    encoder = FecEncoder(USUAL, FecCounts())
    for count in (700, 3, 700):
        (sent,) = encoder.seal([run_of([bytes(1392)] * count)], 0)
        assert (sent.stride, sent.last_size) == (1400, 1400)


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_all_is_restored_that_the_parity_suffices_for(loss: float, seed: int) -> None:
    rng = random.Random(seed)
    encoder, decoder = FecEncoder(USUAL, FecCounts()), Fec(USUAL)
    payloads = [rng.randbytes(rng.choice((24, 200, 200, 200))) for _ in range(600)]
    wire = packets(encoder.seal([run_of([payload]) for payload in payloads], 0))
    sets = [wire[at : at + 13] for at in range(0, len(wire), 13)]
    kept = [[packet for packet in each if rng.random() >= loss] for each in sets]
    # Datagrams overtake one another, and some come twice.
    passed = [packet for each in kept for packet in each]
    order = sorted(range(len(passed)), key=lambda at: at + rng.random() * 8)
    disordered = [passed[at] for at in order for _ in range(rng.choice((1, 1, 1, 2)))]
    arrived, recovered = received(decoder, disordered)
    suffice = [each for each, left in zip(sets, kept, strict=True) if len(left) >= 10]
    enough = {packet[8:] for each in suffice for packet in each[:10]}
    whole = set(arrived) | set(recovered)
    assert enough <= whole <= set(payloads)
    assert len(recovered) == decoder.counts.recovered
    assert decoder.counts.parity_wasted <= decoder.counts.parity_received
    assert recovered or not loss


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_every_pattern_of_loss_is_restored(lost: int) -> None:
    """Of a set in one batch, of sets with all patterns in one batch, and of a set that two batches bring."""
    rng, encoder = random.Random(lost), FecEncoder(USUAL, FecCounts())
    patterns = list(combinations(range(13), lost))
    payloads = [rng.randbytes(100) for _ in range(10 * len(patterns))]
    wire = packets(encoder.seal([run_of(payloads)], 0))
    sets = [
        ([each for index, each in enumerate(wire[13 * at : 13 * at + 13]) if index not in gaps], gaps)
        for at, gaps in enumerate(patterns)
    ]
    expected = [payloads[10 * at + gap] for at, gaps in enumerate(patterns) for gap in gaps if gap < 10]
    together = FecDecoder(USUAL, FecCounts()).open(run_of([packet for left, _ in sets for packet in left]), 0)
    assert sorted(packets(together.recovered)) == sorted(expected)
    alone, halves, repeated = [], [], []
    for left, _ in sets:
        alone += packets(FecDecoder(USUAL, FecCounts()).open(run_of(left), 0).recovered)
        decoder, middle = FecDecoder(USUAL, FecCounts()), rng.randrange(1, len(left))
        for part in (left[:middle], left[middle:]):
            halves += packets(decoder.open(run_of(part), 0).recovered)
        assert decoder.held_bytes == 0
        # Datagrams of two sets that alternate, and come twice.
        twice = [packet for packet in left for _ in range(2)]
        repeated += packets(
            FecDecoder(USUAL, FecCounts()).open(run_of(twice[::2] + twice[1::2]), 0).recovered
        )
    assert sorted(alone) == sorted(halves) == sorted(repeated) == sorted(expected)


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (1, 2)])
def test_of_a_datagram_that_comes_twice_the_first_one_counts(cuts: tuple[int, ...]) -> None:
    """In one batch, or in several. The other one has the same content, or it is garbage."""
    geometry = Geometry(3, 1)
    encoder, decoder = FecEncoder(geometry, FecCounts()), FecDecoder(geometry, FecCounts())
    _, second, third, parity = packets(encoder.seal([run_of([b"one", b"two", b"six"])], 0))
    wire = [second, second[:-3] + b"xyz", third, parity]
    recovered = []
    for start, stop in pairwise((0, *cuts, len(wire))):
        recovered += packets(decoder.open(run_of(wire[start:stop]), 0).recovered)
    assert recovered == [b"one"]


@given(seed=st.integers(0, 2**32 - 1), data=st.integers(1, 70), parity=st.integers(1, 4))
@examples(60)
def test_sets_are_restored_whatever_their_batches_order_and_lengths(
    seed: int, data: int, parity: int
) -> None:
    """No more is lost than the parity restores; the bits of more than 64 shards do not fit in a word."""
    rng, geometry = random.Random(seed), Geometry(data, parity)
    encoder, decoder = FecEncoder(geometry, FecCounts()), FecDecoder(geometry, counts := FecCounts())
    longest = rng.choice((1, 30, 300))
    alike = rng.random() < 0.5
    sizes = [longest if alike else rng.randint(1, longest) for _ in range(4 * data)]
    payloads = [at.to_bytes(2, "little") + rng.randbytes(size) for at, size in enumerate(sizes)]
    wire = packets(encoder.seal([run_of([payload]) for payload in payloads], 0))
    # The first datagram of a connection has none before it: with one data shard, its set has no parity.
    wire = wire[-3 * geometry.shards :]
    kept = []
    for first in range(0, len(wire), geometry.shards):
        gone = rng.sample(range(geometry.shards), rng.randint(0, parity))
        kept += [wire[first + at] for at in range(geometry.shards) if at not in gone]
    if rng.random() < 0.5:
        rng.shuffle(kept)
    kept += rng.sample(kept, len(kept) // 4)
    arrived, recovered = received(decoder, kept)
    assert len(recovered) == counts.recovered == len(set(recovered))
    assert set(arrived) | set(recovered) == set(payloads[data:])
    assert (decoder.lost, decoder.held_bytes, counts.unusable) == (0, 0, 0)


def test_recovered_datagrams_are_told_from_those_that_arrived() -> None:
    geometry = Geometry(2, 1)
    encoder, decoder = FecEncoder(geometry, FecCounts()), FecDecoder(geometry, counts := FecCounts())
    first, second, parity = packets(encoder.seal([run_of([b"one", b"two"])], 0))
    assert received(decoder, [second, parity]) == ([b"two"], [b"one"])
    assert received(decoder, [first]) == ([b"one"], [])  # late, and no second recovery
    assert (counts.recovered, counts.parity_wasted, counts.lost) == (1, 0, 0)


def test_out_of_band_and_plain_datagrams_are_left_alone() -> None:
    decoder = FecDecoder(USUAL, counts := FecCounts())
    out_of_band = b"\xff\xff\xff\xff\xf3\x00" + bytes(20)
    plain = b"\x07\x00\x00\x00\x52\x00" + bytes(20)
    assert received(decoder, [out_of_band, plain]) == ([plain], [])
    assert (counts.out_of_band, counts.unusable, counts.data_received) == (1, 0, 0)


def test_datagrams_of_another_geometry_arrive_and_restore_nothing() -> None:
    encoder, decoder = FecEncoder(Geometry(3, 2), FecCounts()), FecDecoder(USUAL, counts := FecCounts())
    payloads = [bytes([value]) * 50 for value in range(60)]
    arrived, recovered = received(decoder, packets(encoder.seal([run_of(payloads)], 0)))
    assert arrived == payloads
    assert set(recovered) <= set(payloads) or counts.unusable
    assert counts.unusable > 0


@given(
    data=st.binary(max_size=400),
    stride=st.integers(1, 60),
    forged=st.booleans(),
    data_shards=st.integers(1, 3),
)
@examples(150)
def test_arbitrary_bytes_do_not_harm_a_decoder(
    data: bytes, stride: int, forged: bool, data_shards: int
) -> None:
    """Forged headers have the agreed geometry, and contents that contradict it."""
    decoder = FecDecoder(Geometry(data_shards, 2), counts := FecCounts())
    if forged:
        kinds = [0xF1 + (at % (data_shards + 2) >= data_shards) for at in range(8)]
        data = b"".join(
            struct.pack("<IH", at, kind) + data[at : at + stride].ljust(stride)
            for at, kind in enumerate(kinds)
        )
        stride += 6
    batch = DatagramBatch.of(np.frombuffer(data, np.uint8), stride)
    opened = decoder.open(batch, 0)
    assert isinstance(opened, Opened)
    assert sum(each.count for each in opened.arrived) <= batch.count
    assert counts.data_received + counts.parity_received <= batch.count


def test_a_flood_of_incomplete_sets_needs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fec_decoder, "MOST_BYTES", 100_000)
    rng, decoder = random.Random(1), FecDecoder(USUAL, counts := FecCounts())
    for _ in range(300):
        numbers = [rng.randrange(paws(USUAL)) // 13 * 13 for _ in range(10)]
        wire = [number.to_bytes(4, "little") + b"\xf1\x00" + bytes(1394) for number in numbers]
        received(decoder, wire)
        assert decoder.held_bytes <= 100_000
        assert len(decoder._sets) <= fec_decoder.MOST_SETS
    assert counts.lost > 0


def test_sets_with_one_long_shard_among_short_ones_are_restored_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each shard is padded to the longest of its set: 20 sets of 2 kB would take 20 MB at once."""
    monkeypatch.setattr(fec_decoder, "MOST_BYTES", 1_000_000)
    geometry, sets, longest = Geometry(255, 1), range(20), 2_000
    decoder = FecDecoder(geometry, counts := FecCounts())
    for number in (256 * each for each in sets):
        received(decoder, [struct.pack("<IH", number + 255, 0xF2) + bytes(longest)])
        received(decoder, [struct.pack("<IHHB", number + at, 0xF1, 3, 0) for at in range(253)])
    last = run_of([struct.pack("<IHHB", 256 * each + 253, 0xF1, 3, 0) for each in sets])
    tracemalloc.start()
    opened = decoder.open(last, 0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.recovered + counts.unusable == len(sets)
    assert peak_bytes < 4_000_000
    assert opened.worked_bytes > len(sets) * 256 * longest  # the peer pays for it with its share of the time


def forged_sets(sets: int, longest: int) -> tuple[list[bytes], list[bytes]]:
    """Parity of sets of 128:128, 127 shards of 3 bytes and one of `longest` each, and a data datagram of each
    set, with which the other 127 can be restored."""
    parity, data = [], []
    for first in range(0, 256 * sets, 256):
        parity += [struct.pack("<IH", first + at, 0xF2) + bytes(3) for at in range(128, 255)]
        parity.append(struct.pack("<IH", first + 255, 0xF2) + bytes(longest))
        data.append(struct.pack("<IHHB", first, 0xF1, 3, 0))
    return parity, data


def test_sets_beyond_what_one_call_may_restore_are_lost() -> None:
    """490 kB would restore 61 MB, of which there are copies. One set is restored, however large it is."""
    geometry, sets = Geometry(128, 128), 8
    parity, data = forged_sets(sets, 60_000)
    del parity[::128]  # 127 parity shards suffice with the datagram of data
    decoder = FecDecoder(geometry, counts := FecCounts())
    received(decoder, parity)
    tracemalloc.start()
    opened = decoder.open(run_of(data), 0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.recovered + counts.unusable == 127
    assert (counts.lost, counts.parity_wasted) == (7 * 127, 7 * 127)
    assert decoder.held_bytes == 0
    assert peak_bytes < 50_000_000
    assert opened.worked_bytes > 256 * 60_000
    # The next call has bounds of its own.
    later = FecEncoder(geometry, FecCounts(), 256 * sets).seal(
        [run_of([bytes([at]) * 9 for at in range(128)])], 0
    )
    _, recovered = received(decoder, packets(later)[1:])
    assert recovered == [bytes(9)]


def test_sets_beyond_what_one_call_may_work_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short shards take long too, if each set needs matrices of its own."""
    monkeypatch.setattr(fec_decoder, "_MOST_WORKED_BYTES", 100_000_000)
    parity, data = forged_sets(2, 10)
    decoder = FecDecoder(Geometry(128, 128), counts := FecCounts())
    received(decoder, [each for at, each in enumerate(parity) if at not in (0, 129)])  # not the same ones
    decoder.open(run_of(data), 0)
    assert counts.recovered + counts.unusable == counts.lost == 127


def test_matrices_for_a_pattern_of_loss_are_work_of_the_peer() -> None:
    """A set of 2.5 kB takes 0.1 s: some turns of the event loop (`loop_share.QUANTUM`), of 2 MiB each."""
    parity, data = forged_sets(1, 10)
    decoder = FecDecoder(Geometry(128, 128), FecCounts())
    received(decoder, parity[1:])
    assert decoder.open(run_of(data), 0).worked_bytes > 64 << 20
    encoder, decoder = FecEncoder(USUAL, FecCounts()), FecDecoder(USUAL, FecCounts())
    wire = packets(encoder.seal([run_of([bytes(1_392)] * 140)], 0))
    lossy = run_of([packet for at, packet in enumerate(wire) if at % 13])
    assert decoder.open(lossy, 0).worked_bytes < 2 * lossy.size  # no more than to handle what arrived


@pytest.mark.parametrize(("data", "parity", "loss"), [(10, 3, 0.15), (1, 1, 0.2), (4, 2, 0.0)])
def test_a_receiver_knows_the_datagrams_that_stay_lost(data: int, parity: int, loss: float) -> None:
    """Also those of sets of which nothing has arrived, and of sets that are still remembered."""
    rng, layer = random.Random(1), Fec(Geometry(data, parity))
    encoder, payloads = (
        FecEncoder(Geometry(data, parity), FecCounts()),
        [rng.randbytes(40) for _ in range(800)],
    )
    wire = packets(encoder.seal([run_of(payloads)], 0))
    kept = [packet for at, packet in enumerate(wire) if at in (0, len(wire) - 1) or rng.random() >= loss]
    arrived, whole = 0, set[bytes]()
    for batch in batches(kept):
        opened = layer.open(batch, 0)
        whole |= {one.tobytes() for each in (*opened.arrived, *opened.recovered) for one in each}
        arrived += batch.count
    figures = layer.figures()
    assert figures["fec_lost"] == len(payloads) - len(whole)
    assert bool(loss) == bool(figures["fec_lost"])
    assert figures["fec_data_expected"] == len(payloads)
    # A forged number far away, and the sender's numbers after it, are no losses.
    (forged,) = batches([(900_000_000).to_bytes(4, "little") + b"\xf1\x00" + bytes(20)])
    layer.open(forged, 0)
    more = [rng.randbytes(40) for _ in range(2 * data)]
    for batch in batches(packets(encoder.seal([run_of(more)], 0))):
        layer.open(batch, 0)
    assert isinstance(lost := layer.figures()["fec_lost"], int)
    assert lost <= len(payloads) - len(whole) + 2 * data
