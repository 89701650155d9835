"""RTT probes between the data: measured correctly, answered only in their stream, and never amplified."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.udp.association import CALL_BYTES
from iperfpy.protocols.udp.echo import (
    ECHO_BYTES,
    LONGEST_RTT_US,
    STALE_US,
    USUAL_PROBES,
    WAITING_S,
    Prober,
    answer,
)
from iperfpy.protocols.udp.packets import NARROW_BYTES

CONV = 0x89ABCDEF
PROBE_US, MOST_WAITING = 1_000_000 // USUAL_PROBES, round(WAITING_S * USUAL_PROBES)


def test_the_delay_within_the_program_is_no_part_of_the_round_trip() -> None:
    prober = Prober(CONV)
    probe = prober.probe(1_000_000)
    prober.take_echo(answer(probe, CONV, delay_us=7_000), arrived_us=1_047_500)
    assert prober.rtt_us(1_050_000) == 40_500


def test_probes_and_echoes_have_the_specified_bytes() -> None:
    """An echo is longer than a call and shorter than a header, so it is not taken for either."""
    prober = Prober(CONV)
    probe = prober.probe(0)
    echo = answer(probe, CONV, 0x01020304)
    assert probe == bytes.fromhex("efcdab89 01 0001 00000000")
    assert echo == bytes.fromhex("efcdab89 02 0001 01020304")
    assert CALL_BYTES < ECHO_BYTES == len(probe) == len(echo) < NARROW_BYTES


@pytest.mark.parametrize("per_second", [USUAL_PROBES, 20, 200])
def test_probes_are_sent_at_the_interval(per_second: int) -> None:
    prober, probes = Prober(CONV, per_second), 0
    for now_us in range(0, 10_000_000, 50):
        if now_us >= prober.next_us:
            prober.probe(now_us)
            probes += 1
    assert probes == pytest.approx(10 * per_second, rel=0.02)


def test_frequent_probes_await_their_echo_as_long() -> None:
    prober = Prober(CONV, 200)
    probes = [prober.probe(turn * 5_000) for turn in range(400)]  # two seconds under way
    for turn, probe in enumerate(probes):
        prober.take_echo(answer(probe, CONV, 0), turn * 5_000 + 2_000_000)
    assert prober.rtts.count == 400
    assert list(prober.arrivals_us)[:2] == [2_000_000, 2_005_000]


def test_an_echo_counts_once_and_only_for_a_sent_probe() -> None:
    prober, stranger = Prober(CONV), Prober(CONV)
    probe = prober.probe(1_000)
    echo = answer(probe, CONV, 0)
    prober.take_echo(echo, 2_000)
    prober.take_echo(echo, 900_000)
    assert prober.rtt_us(3_000) == 1_000
    prober.take_echo(answer(stranger.probe(0), CONV + 1, 0), 5_000)
    stranger.take_echo(answer(probe, CONV, 0)[:-1], 5_000)
    stranger.take_echo(probe, 5_000)
    assert stranger.rtt_us(5_000) is None
    assert prober.rtt_us(5_000) == 1_000


def test_echoes_come_in_any_order() -> None:
    prober = Prober(CONV)
    first, second = prober.probe(0), prober.probe(100_000)
    prober.take_echo(answer(second, CONV, 0), 150_000)
    assert prober.rtt_us(150_000) == 50_000
    prober.take_echo(answer(first, CONV, 0), 160_000)
    assert prober.rtt_us(160_000) == 160_000


def test_a_probe_without_room_is_followed_by_another_one() -> None:
    prober = Prober(CONV)
    unsent = prober.probe(1_000)
    prober.unsent()
    assert prober.next_us <= 1_000
    probe = prober.probe(31_000)
    prober.take_echo(answer(unsent, CONV, 0), 32_000)
    assert prober.rtt_us(32_000) is None
    prober.take_echo(answer(probe, CONV, 0), 33_000)
    assert prober.rtt_us(33_000) == 2_000


def test_a_lost_probe_gives_no_round_trip() -> None:
    prober = Prober(CONV)
    lost = prober.probe(0)
    assert prober.rtt_us(10) is None
    prober.take_echo(answer(prober.probe(PROBE_US), CONV, 0), PROBE_US + 5_000)
    assert prober.rtt_us(PROBE_US + STALE_US) == 5_000
    assert prober.rtt_us(PROBE_US + STALE_US + 6_000) is None
    for turn in range(MOST_WAITING):
        prober.probe(turn * PROBE_US)
    prober.take_echo(answer(lost, CONV, 0), 70 * PROBE_US)
    assert prober.rtt_us(70 * PROBE_US) is None


def test_sequence_numbers_of_probes_wrap() -> None:
    prober = Prober(CONV)
    for turn in range(70_000):
        now_us = turn * 1_000
        prober.take_echo(answer(prober.probe(now_us), CONV, 0), now_us + 77)
        assert prober.rtt_us(now_us + 77) == 77


@pytest.mark.parametrize("held_us", [-5.0, 1e12])
def test_an_impossible_delay_of_the_answer_gives_no_wrong_rtt(held_us: float) -> None:
    """After a clock was set the RTT is unknown or correct."""
    prober = Prober(CONV)
    prober.take_echo(answer(prober.probe(0), CONV, held_us), 500)
    assert prober.rtt_us(500) in (None, 500)


def test_an_impossible_round_trip_is_ignored() -> None:
    prober = Prober(CONV)
    prober.take_echo(answer(prober.probe(10_000), CONV, 0), 9_000)
    prober.take_echo(answer(prober.probe(20_000), CONV, 0), 20_001 + LONGEST_RTT_US)
    assert prober.rtt_us(20_000) is None


@given(st.one_of(st.binary(max_size=20), st.binary(min_size=ECHO_BYTES, max_size=ECHO_BYTES)))
def test_a_datagram_of_another_stream_gets_no_answer(datagram: bytes) -> None:
    """Only a probe of the stream is answered, and the answer is not longer."""
    echo = answer(datagram, CONV, 0)
    own = datagram[:5] == CONV.to_bytes(4, "little") + b"\x01" and len(datagram) == ECHO_BYTES
    assert bool(echo) == own
    assert len(echo) <= len(datagram)
    assert answer(datagram, 0, 0) == b""
    prober = Prober(CONV)
    prober.probe(0)
    prober.take_echo(datagram, 10)
    if datagram[:5] != CONV.to_bytes(4, "little") + b"\x02":
        assert prober.rtt_us(10) is None


@given(st.binary(min_size=6, max_size=6))
def test_a_probe_is_answered_with_any_content_of_its_other_fields(rest: bytes) -> None:
    probe = CONV.to_bytes(4, "little") + b"\x01" + rest
    assert answer(probe, CONV, 3)[5:7] == rest[:2]
