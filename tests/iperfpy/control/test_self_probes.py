"""The self probes in the results of both ends: as they are sent, and as a peer may send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.control.self_probes import (
    LONGEST_US,
    MOST_INTERVALS,
    MOST_TIMES,
    SELF_PROBES,
    decode_self_probes,
    encode_self_probes,
)


def test_probes_arrive_by_interval() -> None:
    probes = {2: [81_034.4, 90_000.0], 4: [7.0]}
    body = json.loads(json.dumps(encode_self_probes(probes)))
    assert body == {SELF_PROBES: {"first": 2, "us": ["81034,90000", "", "7"]}}
    assert decode_self_probes(body) == {2: [81_034, 90_000], 3: [], 4: [7]}


@pytest.mark.parametrize("probes", [{}, {3: []}])
def test_an_end_without_senders_sends_none(probes: dict[int, list[float]]) -> None:
    assert encode_self_probes(probes) == {}


def test_the_document_is_bounded() -> None:
    probes = {index: [float(LONGEST_US)] * 1000 for index in range(1000)}
    sent = encode_self_probes(probes)
    received = decode_self_probes(sent)
    assert sorted(received) == list(range(1000 - MOST_INTERVALS, 1000))
    assert all(len(times) == MOST_TIMES for times in received.values())


@pytest.mark.parametrize(
    "body",
    [
        *(None, 7, [], "x", {}, {"first": 0}, {"us": []}, {"first": "0", "us": []}),
        *({"first": True, "us": ["1"]}, {"first": 0, "us": "1,2"}, {"first": 0, "us": 7}),
    ],
)
def test_nonsense_of_a_peer_is_no_probe(body: Any) -> None:
    assert not any(decode_self_probes({SELF_PROBES: body}).values())


@pytest.mark.parametrize("text", ["-5", "1e9", "0", "x", "²", "9" * 5000, 5, None, "1.5"])
def test_a_wrong_time_of_a_peer_is_left_out(text: Any) -> None:
    assert decode_self_probes({SELF_PROBES: {"first": 0, "us": [text, "5"]}}) == {0: [], 1: [5]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(st.fixed_dictionaries({SELF_PROBES: st.fixed_dictionaries({"first": json_values, "us": json_values})}))
def test_every_document_is_read(body: Any) -> None:
    for times in decode_self_probes(body).values():
        assert all(0 < us <= LONGEST_US for us in times)
