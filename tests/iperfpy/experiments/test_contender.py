"""The words of contenders: transports with their settings."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.errors import PlanError
from iperfpy.experiments.contender import DEFAULT_CONTENDERS, Contender, contenders_of


def one(word: str, *settings: str) -> Contender:
    (found,) = contenders_of([word], settings)
    return found


@pytest.mark.parametrize(
    ("word", "name", "transport", "chosen", "rate"),
    [
        ("tcp", "tcp", "tcp", {}, 0),
        ("tcp:bbr", "tcp bbr", "tcp", {"congestion": "bbr"}, 0),
        ("tcp:congestion=bbr", "tcp bbr", "tcp", {"congestion": "bbr"}, 0),
        ("tcp:bbr:window=4M", "tcp bbr window=4M", "tcp", {"congestion": "bbr", "window": 4 << 20}, 0),
        ("tcp:mptcp", "tcp mptcp", "tcp", {"mptcp": True}, 0),
        ("tcp:nodelay=off", "tcp nodelay=off", "tcp", {"nodelay": False}, 0),
        ("kcp:fast", "kcp fast", "kcp", {"mode": "fast"}, 0),
        ("kcp:kcp-mode=fast", "kcp fast", "kcp", {"mode": "fast"}, 0),
        ("kcp:kcp-sndwnd=512", "kcp sndwnd=512", "kcp", {"sndwnd": 512}, 0),
        ("kcp:sw=512:mtu=1200", "kcp sw=512 mtu=1200", "kcp", {"sndwnd": 512, "mtu": 1200}, 0),
        ("udp:20M", "udp 20M", "udp", {}, 20_000_000),
        ("udp:rate=1.5m", "udp rate=1.5m", "udp", {}, 1_500_000),
        ("kcp-bbr:rate=5M", "kcp-bbr rate=5M", "kcp-bbr", {}, 5_000_000),
        (" kcp ", "kcp", "kcp", {}, 0),
    ],
)
def test_a_word_is_a_transport_with_parts(
    word: str, name: str, transport: str, chosen: dict[str, Any], rate: int
) -> None:
    found = one(word)
    assert (found.name, found.transport.name) == (name, transport)
    assert (dict(found.chosen), found.rate_bps) == (chosen, rate)
    assert {key: found.settings.record()[key] for key in chosen} == chosen


def test_only_a_rate_that_is_a_result_is_ranked() -> None:
    found = contenders_of(["tcp", "kcp-bbr:rate=5M", "udp", "udp:20M"])
    assert [contender.ranked for contender in found] == [True, False, False, False]


def test_a_setting_is_for_every_contender_of_its_transport() -> None:
    found = contenders_of(["tcp:bbr", "tcp:cubic", "kcp"], ["tcp:window=1M", "tcp:bbr:mss=1000"])
    assert [contender.chosen.get("window") for contender in found] == [1 << 20, 1 << 20, None]
    assert [contender.chosen.get("mss") for contender in found] == [1000, None, None]
    assert [contender.name for contender in found] == ["tcp bbr", "tcp cubic", "kcp"]
    assert contenders_of(["kcp"], ["kcp:rate=1M"])[0].rate_bps == 1_000_000


def test_the_value_of_a_setting_may_have_a_colon() -> None:
    """A colon separates the parts of a word."""
    fec, both = contenders_of(["kcp:fec=10:3", "kcp-bbr:fec=4:2:mtu=1200"])
    assert (fec.chosen, both.chosen) == ({"fec": "10:3"}, {"fec": "4:2", "mtu": 1200})
    (set_,) = contenders_of(["kcp"], ["kcp:kcp-fec=10:3"])
    assert set_.settings.record()["fec"] == "10:3"
    first, second = contenders_of(["kcp:fec=10:3", "kcp"], ["kcp:fec=10:3:crypt=aes"])
    assert (first.chosen, second.chosen) == ({"fec": "10:3", "crypt": "aes"}, {})


def test_one_text_may_have_several_words() -> None:
    assert contenders_of("tcp:bbr,kcp") == contenders_of(["tcp:bbr", "kcp"])
    assert len(contenders_of(DEFAULT_CONTENDERS)) == 4


@pytest.mark.parametrize(
    ("words", "settings", "sentence"),
    [
        ([""], [], "unknown transport ''"),
        (["quick"], [], "unknown transport 'quick' (known: tcp, udp, kcp, kcp-bbr"),
        (["kcp:quick"], [], "mode must be one of normal, fast, fast2, fast3, not 'quick' (kcp:mode)"),
        (["kcp:window=3x"], [], "'3x' is not a size"),
        (["kcp:sndwnd=0"], [], "sndwnd must be between 1 and 65535, not 0 (kcp:sndwnd)"),
        (["kcp:sndwnd=many"], [], "'many' is not a whole number (kcp:sndwnd)"),
        (["tcp:nodelay=maybe"], [], "'maybe' is neither on nor off (tcp:nodelay)"),
        (["kcp-bbr:fast"], [], "'fast' in 'kcp-bbr:fast' is no setting: it has kcp-sndwnd"),
        (["kcp:kcp-mod=fast"], [], "kcp has no setting 'kcp-mod': it has kcp-sndwnd"),
        (["udp:fast"], [], "'fast' is not a rate"),
        (["tcp", "udp:0"], [], "udp repeats no losses, so its rate must be above 0, not '0'"),
        (["tcp", "udp"], ["udp:rate=0"], "udp repeats no losses, so its rate must be above 0, not '0'"),
        (["tcp", "udp:0.4"], [], "'0.4' is too small"),
        (["kcp", "kcp"], [], "the contender kcp is there twice"),
        (
            ["udp"],
            [],
            "udp repeats no losses, so it needs a rate where no other contender shows one: udp:20M",
        ),
        (["udp", "kcp:rate=1M"], [], "udp repeats no losses"),
        (["kcp"], ["kcp"], "'kcp' is no setting: expected NAME:KEY=VALUE"),
        (["kcp"], ["sndwnd=5"], "'sndwnd=5' is no setting: expected NAME:KEY=VALUE"),
        (["kcp"], ["tcp:mss=1000"], "'tcp:mss=1000' is a setting of no contender: there is no tcp"),
        (["tcp"], ["kcp:fec=10:3"], "'kcp:fec=10:3' is a setting of no contender: there is no kcp"),
        (["kcp"], ["quick:mss=1000"], "unknown transport 'quick'"),
        (["kcp"], ["kcp:kcp-mod=fast"], "kcp has no setting 'kcp-mod'"),
        ([], [], "a comparison needs a contender"),
    ],
)
def test_a_word_that_is_not_understood_is_named(words: list[str], settings: list[str], sentence: str) -> None:
    with pytest.raises(PlanError) as failure:
        contenders_of(words, settings)
    assert str(failure.value).startswith(sentence)
