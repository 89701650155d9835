"""The sentences about a sender's figures at the end of a test."""

from __future__ import annotations

import re

import pytest

from iperfpy.diagnosis import one_run
from iperfpy.diagnosis.evidence import EndFigures
from iperfpy.protocols.kcp import Kcp
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.path_evidence import PathEvidence
from tests.iperfpy.diagnosis.synthetic import run


@pytest.mark.parametrize(
    ("figures", "sentences"),
    [
        ({"mtu_start_bytes": 1400, "mtu_bytes": 1400, "rtt_us": 200.0}, ()),
        (
            {"mtu_start_bytes": 1400, "mtu_bytes": 1200, "rtt_us": 200.0},
            ("the path does not carry datagrams of 1,400 bytes: 1,200 bytes are used",),
        ),
        (
            {"mtu_start_bytes": 1400, "mtu_bytes": 1200, "rtt_us": None},
            ("none of the datagrams of 1,200 bytes or more was acknowledged",),
        ),
        ({}, ()),
    ],
)
def test_a_shorter_size_is_told_as_far_as_it_is_known(
    figures: dict[str, Value], sentences: tuple[str, ...]
) -> None:
    assert Kcp().notices(figures) == sentences


FLOODED: dict[str, Value] = {
    "bytes": 690_000,
    "congestion": "none",
    "sndwnd_limited_us": 2_950_000,
    "application_limited_us": 50_000,
    "min_rtt_us": 51_000,
    "snd_cwnd_bytes": 2048 * 1376,
    "snd_wnd_bytes": 2048 * 1376,
    "mtu_bytes": 1400,
    "segment_payload_bytes": 1376,
    "mtu_start_bytes": 1400,
    "rtt_us": 2e6,
}


def test_a_window_of_many_times_the_path_is_told() -> None:
    (sentence,) = Kcp().remarks(FLOODED)
    assert sentence == (
        "the send window is 240 times the bandwidth-delay product of this path (1.84 Mbit/s over 51 ms): the"
        " rest waits in a queue, up to 12.3 s, or is lost and sent again; try --kcp-sndwnd 11, or kcp-bbr"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"snd_cwnd_bytes": 3 * 11_730},  # three times the path
        {"min_rtt_us": 4_000_000},  # a path that holds the window
        {"bytes": 690_000_000},  # it drains in milliseconds
        {"sndwnd_limited_us": 20_000},  # the window was not full
        {"congestion": "kcp"},
        {"min_rtt_us": None},
        {"bytes": 0},
    ],
)
def test_a_window_that_harms_nobody_is_not_told(change: dict[str, Value]) -> None:
    assert Kcp().remarks({**FLOODED, **change}) == ()


def test_the_warning_and_the_verdict_recommend_the_same_window() -> None:
    (warning,) = Kcp().remarks(FLOODED)
    rtts = {"p5": 51e3, "p50": 9e6, "p95": 12e6, "max": 12e6}
    path = PathEvidence(min_rtt_us=51e3, rtt_us=rtts, packet_bytes=1_428)
    figures = EndFigures.of(Kcp(), FLOODED, {})
    kcp = {"transport": "kcp", "controlled": False, "figures": figures, "path": (path,)}
    words = one_run.advice_line(one_run.conclude(run(bits_per_second=1.7e6, **kcp)))
    numbers = [re.findall(r"--kcp-sndwnd (\d+)", text) for text in (warning, words)]
    assert numbers == [["11"], ["11"]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (KcpSettings(), "no encryption and no forward error correction"),
        (KcpSettings(fec="10:3"), "no encryption and --kcp-fec 10:3"),
        (
            KcpSettings(crypt="aes-128-gcm"),
            "--kcp-crypt aes-128-gcm and its key, and no forward error correction",
        ),
    ],
)
def test_a_bare_peer_without_an_answer_may_have_another_envelope(settings: KcpSettings, words: str) -> None:
    assert Kcp().bare_settings(settings) == words
