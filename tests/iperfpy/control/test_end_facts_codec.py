"""The facts about a server's end, as its client reads them."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.control.end_facts_codec import (
    LONGEST_FACT,
    SERVER,
    decode_end_facts,
    encode_end_facts,
)
from iperfpy.records import EndFacts

FACTS = EndFacts("iperfpy 9.9", "Linux 6.1.0 x86_64", 1448, 2_626_560, 131_072)


def test_facts_round_trip() -> None:
    assert decode_end_facts(encode_end_facts(FACTS)) == FACTS
    some = EndFacts("iperfpy 9.9", receive_buffer_bytes=7)
    assert encode_end_facts(some) == {SERVER: {"version": "iperfpy 9.9", "receive_buffer_bytes": 7}}
    assert decode_end_facts(encode_end_facts(some)) == some


def test_an_end_without_facts_sends_no_key() -> None:
    assert encode_end_facts(None) == encode_end_facts(EndFacts()) == {}


@pytest.mark.parametrize("extension", [None, 5, {}, {SERVER: None}, {SERVER: ["iperfpy"]}])
def test_an_older_server_tells_nothing(extension: object) -> None:
    assert decode_end_facts(extension) == EndFacts()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 5),
        ("system_info", None),
        ("mss_bytes", -1),
        ("mss_bytes", 1.5),
        ("send_buffer_bytes", "4"),
        ("receive_buffer_bytes", 2**64),
        ("receive_buffer_bytes", True),
    ],
)
def test_a_fact_of_another_form_is_not_known(key: str, value: Any) -> None:
    record = decode_end_facts({SERVER: {**FACTS.record(), key: value}}).record()
    assert record == {name: fact for name, fact in FACTS.record().items() if name != key}


def test_long_texts_are_cut() -> None:
    facts = decode_end_facts(encode_end_facts(EndFacts("v" * 9_999, "s" * 9_999)))
    assert (len(facts.version), len(facts.system_info)) == (LONGEST_FACT, LONGEST_FACT)
