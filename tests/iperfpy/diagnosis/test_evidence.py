"""The figures of a test for conclusions are found by meaning, whatever keys a transport has."""

from __future__ import annotations

from dataclasses import fields

from iperfpy.diagnosis.evidence import EndFigures
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.registry import transport
from iperfpy.protocols.window_size import enough_segments, limited_s
from tests.iperfpy.report.meaningful import ARRIVED, SENT, Meaningful


def test_a_plugin_has_the_figures_of_its_meanings() -> None:
    sender: dict[str, Value] = {**SENT, "bytes": 95_000, "min_rtt_us": 20_000.0}
    assert limited_s(sender, Meaningful().metrics) == 1.0
    assert EndFigures.of(Meaningful(), sender, ARRIVED) == EndFigures(
        resent=5,
        transmitted=100,
        in_vain=5,
        full_datagram=1_200,
        enough_segments=enough_segments(8 * 95_000, 20_000, 1_000),
    )


def test_kcp_has_a_figure_for_all_but_datagrams() -> None:
    kcp = transport("kcp")
    sender: dict[str, Value] = {**{metric.key: 7 for metric in kcp.metrics}, "bytes": 700}
    found = EndFigures.of(kcp, sender, {"duplicates": 3})
    assert {each.name for each in fields(found) if getattr(found, each.name) is None} == {"sent", "lost"}
    assert (found.in_vain, found.repeated) == (7, 3)


def test_udp_counts_its_datagrams() -> None:
    sender: dict[str, Value] = {"datagrams_sent": 100}
    receiver: dict[str, Value] = {"lost_datagrams": 8}
    assert EndFigures.of(transport("udp"), sender, receiver) == EndFigures(sent=100, lost=8)


def test_figures_that_are_not_known_are_none() -> None:
    for name in ("tcp", "udp", "kcp", "kcp-bbr"):
        assert EndFigures.of(transport(name), {}, {}) == EndFigures()
