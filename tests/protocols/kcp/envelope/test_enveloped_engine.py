"""Engines that exchange data through an envelope: sizes, counters, and recovered segments."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.kcp_metrics import ENVELOPE_METRICS, record
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings, SharedSettings
from iperfpy.protocols.kcp.size_range import SizeRange
from tests.protocols.kcp.ends import CONV, batches, push, seg
from tests.protocols.kcp.envelope.enveloped import Enveloped
from tests.protocols.kcp.exchange import Exchange, Stream, Way

TOTAL = 300_000
SECRET = b"a secret of this test"
FEC: dict[str, Any] = {"fec": "10:3"}


def end(settings: SharedSettings, stream: Stream, *, agreed: bool = False) -> Enveloped:
    sizes = SizeRange.of(1_500, ipv6=False, envelope_bytes=settings.envelope_bytes)
    if isinstance(settings, KcpBbrSettings):
        engine = engine_factory.with_bbr(CONV, settings, stream.deliver, sizes=sizes)
    else:
        assert isinstance(settings, KcpSettings)
        engine = engine_factory.stock(CONV, settings, stream.deliver, sizes=sizes)
    return Enveloped(engine, layers_of(settings, SECRET, random.Random(1).randbytes, agreed=agreed))


def exchanged(
    settings: SharedSettings, way: Way, total: int = TOTAL, *, agreed: bool = False
) -> tuple[Enveloped, Enveloped]:
    """Both ends after an exchange in both directions. The search of sizes runs, as in the channel."""
    data = (Stream(total, 1), Stream(total // 3, 2))
    left, right = end(settings, data[1], agreed=agreed), end(settings, data[0], agreed=agreed)
    exchange = Exchange(cast(Engine, left), cast(Engine, right), way, way, data, seed=5)
    for one in (left, right):
        one.engine.search_size(0)
    exchange.run()
    exchange.drain()
    assert all(stream.intact for stream in data)
    return left, right


@pytest.mark.parametrize("settings", [KcpSettings(**FEC), KcpBbrSettings(**FEC)], ids=["kcp", "kcp-bbr"])
def test_data_crosses_a_lossy_path_and_both_ends_count_what_the_socket_carries(
    settings: SharedSettings,
) -> None:
    left, right = exchanged(settings, Way(loss=0.05))
    sent, received = left.counts, right.counts
    figures, other = left.wrapped.figures(), right.wrapped.figures()
    assert other["fec_recovered"]
    assert set(figures) <= {metric.key for metric in ENVELOPE_METRICS}
    assert sent.datagrams_sent == figures["fec_data_sent"] + figures["fec_parity_sent"]  # type: ignore[operator]
    assert sent.wire_bytes_sent == figures["fec_data_bytes"] + figures["fec_added_bytes"]  # type: ignore[operator]
    assert 0.9 * sent.datagrams_sent < received.datagrams_received < sent.datagrams_sent


@pytest.mark.parametrize(("fec", "agreed"), [("auto", True), ("auto:10:3", False)])
@pytest.mark.parametrize("kind", [KcpSettings, KcpBbrSettings])
def test_data_crosses_a_lossy_path_with_forward_error_correction_that_adapts(
    kind: type[SharedSettings], fec: str, agreed: bool
) -> None:
    left, right = exchanged(kind(fec=fec), Way(loss=0.05), agreed=agreed)
    figures, other = left.wrapped.figures(), right.wrapped.figures()
    assert set(figures) <= {metric.key for metric in ENVELOPE_METRICS}
    assert other["fec_unusable"] == 0
    assert figures["fec_reason"]


@pytest.mark.parametrize("kind", [KcpSettings, KcpBbrSettings])
def test_forward_error_correction_saves_retransmissions(kind: type[SharedSettings]) -> None:
    plain, _ = exchanged(kind(), Way(loss=0.02))
    corrected, _ = exchanged(kind(**FEC), Way(loss=0.02))
    assert plain.counts.retransmitted > 5
    assert corrected.counts.retransmitted < plain.counts.retransmitted


@pytest.mark.parametrize("settings", [KcpSettings(**FEC), KcpBbrSettings(**FEC)], ids=["kcp", "kcp-bbr"])
def test_datagrams_have_the_size_that_the_path_carries_with_their_envelope(settings: SharedSettings) -> None:
    left, _ = exchanged(settings, Way())
    assert left.sending.mtu == 1_392
    assert record(left.engine, 0)["mtu_bytes"] == 1_400
    stream = Stream(50_000, 3)
    stream.feed(left.engine, left.delivery.stamp_us)
    assert max(batch.stride for batch in left.transmit(left.delivery.stamp_us + 1)) == 1_400


def test_the_size_of_the_user_and_of_a_narrow_path_count_the_envelope() -> None:
    assert SizeRange.of_user(1_000, ipv6=False, envelope_bytes=8).first == 992
    narrow = SizeRange.of(1_280, ipv6=True, envelope_bytes=36)
    assert narrow.first == narrow.largest == 1_280 - 48 - 36
    assert max(narrow.between(0, narrow.largest)) + 36 + 48 <= 1_280
    assert narrow.smallest + 36 == 548


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fec": "10"}, "two numbers as in 10:3"),
        ({"fec": "a:b"}, "two numbers as in 10:3"),
        ({"fec": "10:0"}, "at least 1 data and 1 parity datagram, and at most 256"),
        ({"fec": "250:7"}, "at least 1 data and 1 parity datagram, and at most 256"),
        ({"fec": "10:3", "ds": 5, "ps": 5}, "contradicts"),
        ({"ds": 10}, "need each other"),
        ({"fec": "auto", "ds": 10, "ps": 3}, "--kcp-fec auto excludes --kcp-ds 10 --kcp-ps 3"),
        ({"fec": "auto:off"}, "auto and the sets of the peer"),
        ({"fec": "auto:10"}, "two numbers as in 10:3"),
        ({"fec": "automatic"}, "two numbers as in 10:3, auto, or off"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        KcpSettings(**given)


def test_the_spellings_of_other_programs_mean_the_same() -> None:
    assert KcpSettings(ds=10, ps=3) == KcpSettings(fec="10:3")
    assert KcpSettings(ds=0, ps=0) == KcpSettings(fec="off") == KcpSettings()
    assert KcpSettings(fec="10:3").to_wire() == {"fec": "10:3"}
    assert KcpSettings(fec="auto:010:3").to_wire() == {"fec": "auto:10:3"}


def test_a_peer_whose_sets_are_not_known_cannot_have_sets_that_adapt() -> None:
    with pytest.raises(SettingsError, match=r"needs iperfpy at the other end: .* as in --kcp-fec auto:10:3"):
        end(KcpSettings(fec="auto"), Stream(0, 1))


@pytest.mark.parametrize("kind", [KcpSettings, KcpBbrSettings])
def test_a_recovered_acknowledgement_gives_no_round_trip_and_no_window(kind: type[SharedSettings]) -> None:
    def sending() -> Engine:
        engine = end(kind(), Stream(0, 1)).engine
        engine.write(memoryview(bytes(20_000)), 0)
        assert engine.sizes is not None
        engine.sizes.opened = True
        for now_us in range(0, 30_000, 1_000):
            engine.transmit(now_us)
        return engine

    one = sending()
    stamps = {int(one.sending.state.sent_us[number]) for number in range(one.sending.nxt)}
    assert one.sending.nxt >= 3
    acks = [seg(82, sn=number, ts=min(stamps), una=1, wnd=9) for number in (0, 2)]
    (batch,) = batches([b"".join(acks)])
    one.receive(batch, 40_000, recovered=True)
    assert one.sending.una == 1
    assert one.sending.bytes_acked == 2 * one.sending.mss  # what it acknowledges counts
    assert one.rtt.samples == one.delivery.mean_rtt.value_us == 0
    assert one.peer_window != 9
    assert one.counts.datagrams_received == 1
    other = sending()
    other.receive(batch, 40_000)
    assert other.rtt.samples
    assert other.peer_window == 9


def test_a_recovered_data_segment_is_delivered_and_acknowledged() -> None:
    stream = Stream(0, 1)
    taken: list[bytes] = []
    engine = engine_factory.stock(
        CONV, KcpSettings(), lambda payload: taken.append(np.array(payload).tobytes())
    )
    (batch,) = batches([push(0, b"abc", wnd=7)])
    engine.receive(batch, 1_000, recovered=True)
    assert taken == [b"abc"]
    assert engine.peer_window != 7
    assert [bytes(each)[4] for sent in engine.transmit(1_000) for each in sent] == [82]
    assert stream.intact
