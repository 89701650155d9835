"""Challenges and proofs by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.datagrams.address_proof import (
    MOST_PENDING,
    PROOF_BYTES,
    Addresses,
    Prover,
    Verifier,
    split_last,
)
from tests.protocols.datagrams.openings import CONV, HERE, OPENING, TAG
from tests.protocols.kcp.ends import batch

THERE: Addresses = (("192.0.2.2", 5000), ("192.0.2.9", 5201))


def test_a_proof_is_the_challenge_returned_and_counts_once() -> None:
    prover, verifier = Prover(CONV), Verifier(CONV)
    assert prover.opening == OPENING
    challenge = verifier.challenge(HERE)
    assert len(challenge) == len(prover.opening) == PROOF_BYTES
    assert verifier.challenge(HERE) == challenge
    proof = prover.answer(challenge)
    assert not verifier.accepts(proof, THERE)
    assert verifier.accepts(proof, HERE)
    assert not verifier.accepts(proof, HERE)
    assert verifier.challenge(HERE) != challenge


def test_nothing_but_a_challenge_of_this_stream_is_answered() -> None:
    prover = Prover(CONV)
    for datagram in (OPENING, b"", TAG, bytes(10), Verifier(CONV + 1).challenge(HERE), TAG + bytes(7)):
        assert prover.answer(datagram) == b""


def test_a_cookie_is_never_that_of_an_opening() -> None:
    cookies = iter([bytes(6), b"cookie"])
    assert Verifier(CONV, lambda size: next(cookies)).challenge(HERE) == TAG + b"cookie"


def test_challenges_that_nobody_answers_need_bounded_memory() -> None:
    verifier = Verifier(CONV)
    first = verifier.challenge(HERE)
    others = [((f"192.0.2.{number}", 1), HERE[1]) for number in range(10, 10 + MOST_PENDING)]
    challenges = [verifier.challenge(addresses) for addresses in others]
    assert not verifier.accepts(first, HERE)
    assert verifier.accepts(challenges[0], others[0])


@given(st.binary(min_size=6, max_size=6), st.binary(max_size=40))
def test_only_the_cookie_of_the_address_is_accepted(cookie: bytes, datagram: bytes) -> None:
    verifier = Verifier(CONV, lambda size: cookie if any(cookie) else b"cookie")
    challenge = verifier.challenge(HERE)
    assert verifier.accepts(datagram, HERE) is (datagram == challenge)


@pytest.mark.parametrize(
    ("datagrams", "rest", "taken"),
    [
        ([OPENING], 0, 1),
        ([OPENING, OPENING], 0, 2),
        ([b"d" * 24, b"d" * 24, OPENING], 2, 1),
        ([b"d" * 24, b"d" * 24, b"e" * 10], 3, 0),
        ([b"e" * 10], 1, 0),
        ([b"e" * 10, OPENING], 2, 0),
    ],
)
def test_proofs_are_separated_from_the_datagrams_of_a_transport(
    datagrams: list[bytes], rest: int, taken: int
) -> None:
    left, found = split_last(batch(*datagrams), TAG)
    assert (left.count if left is not None else 0, len(found)) == (rest, taken)
    assert [bytes(each) for each in left or ()] == datagrams[:rest]
