"""The sentence of a comparison: the contender to take, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from iperfpy.comparison.choice import bulk_choice, message_choice
from iperfpy.comparison.comparison_report import ComparisonReport, ContenderFacts
from iperfpy.diagnosis.finding import Confidence
from iperfpy.plan import Direction
from tests.iperfpy.report.compare_scenes import (
    CUBIC,
    DOWN,
    KCP_BBR,
    MEANS,
    TCP_BBR,
    UDP,
    UP,
    measured,
    nothing,
    whole,
)

PAIR = (TCP_BBR, KCP_BBR)


def report(
    means: Mapping[tuple[str, Direction], float],
    contenders: tuple[ContenderFacts, ...] = PAIR,
    rounds: int = 7,
) -> ComparisonReport:
    """A comparison with those steady rates, and 0.1 % between its rounds."""
    tests = [
        measured(one, way, number, means[one.name, way] * (1 + 0.001 * number))
        for number in range(1, rounds + 1)
        for one in contenders
        for way in (UP, DOWN)
    ]
    return replace(whole(1, contenders), tests=tuple(tests))


def test_one_winner_is_named_with_the_next_one() -> None:
    means = {(TCP_BBR.name, UP): 10e6, (TCP_BBR.name, DOWN): 5e6}
    means |= {(KCP_BBR.name, UP): 12.5e6, (KCP_BBR.name, DOWN): 10e6}
    choice = bulk_choice(report(means))
    assert choice.take == {UP: ("kcp-bbr",), DOWN: ("kcp-bbr",)}
    assert choice.confidence is Confidence.SURE
    assert choice.sentence == (
        "For bulk, take kcp-bbr (sure, 7 tests each):"
        " up, tcp bbr carries 20 % less; down, tcp bbr carries 50 % less."
    )


def test_equal_contenders_are_named_as_equal() -> None:
    means = {(one.name, way): 10e6 for one in PAIR for way in (UP, DOWN)}
    choice = bulk_choice(report(means))
    assert choice.take[UP] == ("tcp bbr", "kcp-bbr")
    assert choice.sentence.startswith("For bulk, tcp bbr and kcp-bbr are equal (sure, 7 tests each")
    assert choice.sentence.endswith("may be hidden): take any.")


def test_each_direction_may_have_its_own() -> None:
    means = {(TCP_BBR.name, UP): 10e6, (TCP_BBR.name, DOWN): 5e6}
    means |= {(KCP_BBR.name, UP): 8e6, (KCP_BBR.name, DOWN): 10e6}
    choice = bulk_choice(report(means))
    assert choice.sentence == "For bulk, take tcp bbr up and kcp-bbr down (sure, 7 tests each)."


def test_one_that_is_equal_here_and_better_there_is_taken() -> None:
    means = {(TCP_BBR.name, UP): 10e6, (TCP_BBR.name, DOWN): 5e6}
    means |= {(KCP_BBR.name, UP): 10e6, (KCP_BBR.name, DOWN): 10e6}
    sentence = bulk_choice(report(means)).sentence
    assert sentence.startswith("For bulk, take kcp-bbr (sure, 7 tests each; a difference of up to")
    assert sentence.endswith(": up, tcp bbr is equal; down, tcp bbr carries 50 % less.")


def test_with_one_direction_its_name_says_nothing() -> None:
    one = replace(report(MEANS, (TCP_BBR, CUBIC)), directions=(DOWN,))
    sentence = "For bulk, take tcp bbr (sure, 7 tests each): tcp cubic carries 21 % less."
    assert bulk_choice(one).sentence == sentence


def test_a_wide_spread_makes_equality_uncertain() -> None:
    noisy = whole(7, PAIR, spread=0.3)
    choice = bulk_choice(replace(noisy, directions=(UP,)))
    assert choice.confidence is Confidence.POSSIBLE
    assert "may be equal (not sure, 7 tests each; a difference of up to" in choice.sentence


@pytest.mark.parametrize(("rounds", "words"), [(1, "1 test"), (3, "3 tests")])
def test_few_rounds_rank_nobody(rounds: int, words: str) -> None:
    choice = bulk_choice(report(MEANS, rounds=rounds))
    assert (choice.take, choice.confidence) == ({}, None)
    assert choice.sentence == (
        f"For bulk, tcp bbr up and kcp-bbr down were the fastest, but with {words} each,"
        " no ranking is possible (6 are needed)."
    )


def test_udp_is_never_chosen() -> None:
    fast = {**MEANS, (UDP.name, UP): 90e6, (UDP.name, DOWN): 90e6}
    choice = bulk_choice(report(fast, (TCP_BBR, KCP_BBR, UDP)))
    assert all("udp" not in names for names in choice.take.values())
    assert "udp" not in choice.sentence


@pytest.mark.parametrize("rounds", [2, 7])
def test_a_winner_that_floods_the_path_has_its_price_in_the_sentence(rounds: int) -> None:
    means = {(TCP_BBR.name, UP): 10e6, (TCP_BBR.name, DOWN): 5e6}
    means |= {(KCP_BBR.name, UP): 12.5e6, (KCP_BBR.name, DOWN): 10e6}
    good = report(means, rounds=rounds)
    prices = {KCP_BBR.name: 4.24, TCP_BBR.name: 7.0}
    tests = [replace(one, wire_per_payload=prices[one.contender]) for one in good.tests]
    choice = bulk_choice(replace(good, tests=tuple(tests)))
    assert choice.sentence.endswith(". kcp-bbr sends 4.2 bytes for each byte of payload.")
    assert "7.0" not in choice.sentence


def test_one_that_is_not_taken_has_no_price() -> None:
    means = {(TCP_BBR.name, UP): 10e6, (TCP_BBR.name, DOWN): 10e6}
    means |= {(KCP_BBR.name, UP): 10e6, (KCP_BBR.name, DOWN): 5e6}
    good = report(means)
    tests = [replace(one, wire_per_payload=4.0 * (one.contender == KCP_BBR.name)) for one in good.tests]
    assert "of payload" not in bulk_choice(replace(good, tests=tuple(tests))).sentence


def test_a_failed_test_changes_no_rank() -> None:
    good = report(MEANS)
    bad = replace(good.tests[0], steady_bits_per_second=1.0, error="the path died")
    assert bulk_choice(replace(good, tests=(*good.tests, bad))) == bulk_choice(good)


def test_alone_there_is_nothing_to_compare() -> None:
    sentence = bulk_choice(report(MEANS, (TCP_BBR,))).sentence
    assert sentence == "For bulk, only tcp bbr was measured: there is nothing to compare."
    assert bulk_choice(nothing()).sentence == "For bulk, nothing was measured."


def test_a_contender_with_a_rate_of_its_own_is_the_reason_for_no_ranking() -> None:
    means = {**MEANS, (UDP.name, UP): 20e6, (UDP.name, DOWN): 20e6}
    pair = report(means, (TCP_BBR, UDP))
    reason = f"{UDP.name} was sent at a rate of its own."
    assert bulk_choice(pair).sentence == f"For bulk, only tcp bbr can be ranked: {reason}"
    alone = bulk_choice(report(means, (UDP,)))
    assert alone.sentence == f"For bulk, no contender can be ranked: {reason}"
    assert message_choice(pair).sentence == (
        f"For messages, only tcp bbr can be ranked: {UDP.name} has a rate of its own."
    )
    # One that was never measured explains nothing.
    missing = replace(pair, tests=tuple(one for one in pair.tests if one.contender != UDP.name))
    assert bulk_choice(missing).sentence.endswith("only tcp bbr was measured: there is nothing to compare.")


def test_messages_are_ranked_by_the_slowest_ones() -> None:
    choice = message_choice(whole(7))
    assert choice.sentence == (
        "For messages, take kcp-bbr (sure, 7 tests each): kcp takes 71 % longer for its slowest 5 %."
    )
    assert message_choice(nothing()).sentence == "For messages, nothing was measured."


def test_messages_that_differ_by_less_than_a_millisecond_are_equal() -> None:
    short = whole(8, (TCP_BBR, CUBIC))
    quick = []
    for one in short.messages:
        longer_us = 300 * (one.contender == CUBIC.name)
        quick.append(replace(one, round_trip_us=tuple(us // 1000 + longer_us for us in one.round_trip_us)))
    choice = message_choice(replace(short, messages=tuple(quick)))
    assert choice.sentence == "For messages, tcp bbr and tcp cubic are equal (sure, 8 tests each): take any."
