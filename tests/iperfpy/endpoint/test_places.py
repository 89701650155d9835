"""Places of a server by source, and waits after refused passwords; times are numbers."""

from __future__ import annotations

import pytest

from iperfpy.endpoint.places import (
    LONGEST_WAIT_S,
    SOURCES_LIMIT,
    NoPlaceError,
    PasswordWaits,
    PlaceTable,
    source_of,
)


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "not an address"),
    ],
)
def test_a_source_is_an_address_or_a_network(host: str, source: str) -> None:
    assert source_of(host) == source


def filled(limit: int, source: str = "flood", **options: float) -> PlaceTable[str]:
    """Return places all taken by silent holders of one source, one a second from 0 on."""
    places: PlaceTable[str] = PlaceTable(limit, **options)
    for number in range(limit):
        assert places.take(f"{source} {number}", source, number) is None
    return places


def test_a_newcomer_gets_the_place_of_the_oldest_silent_holder() -> None:
    places = filled(800)
    assert places.take("honest", "elsewhere", 800) == "flood 0"
    assert places.take("another", "flood", 801) == "flood 1"
    assert len(places) == 800


def test_the_source_that_holds_most_loses_a_place_first() -> None:
    places: PlaceTable[str] = PlaceTable(10)
    places.take("old", "honest", 0)
    for number in range(9):
        places.take(f"flood {number}", "flood", 1 + number)
    assert [places.take(f"more {number}", "flood", 10) for number in range(12)] == [
        *(f"flood {number}" for number in range(9)),
        *(f"more {number}" for number in range(3)),
    ]


def test_a_holder_that_did_its_part_keeps_its_place() -> None:
    places = filled(3)
    for number in range(3):
        places.settle(f"flood {number}")
    with pytest.raises(NoPlaceError) as full:
        places.take("honest", "elsewhere", 100)
    assert not full.value.by_source
    places.leave("flood 1")
    assert places.take("honest", "elsewhere", 101) is None


def test_a_source_cannot_have_all_places() -> None:
    places: PlaceTable[str] = PlaceTable(64, share=0.75)
    for number in range(48):
        places.take(f"one {number}", "one", 0)
        places.settle(f"one {number}")
    with pytest.raises(NoPlaceError) as full:
        places.take("more", "one", 0)
    assert full.value.by_source
    assert places.take("other", "two", 0) is None


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (3, 3), (4, 3), (64, 48)])
def test_a_small_server_serves_one_source(limit: int, most: int) -> None:
    places: PlaceTable[int] = PlaceTable(limit, share=0.75)
    for number in range(most):
        places.take(number, "one", 0)
        places.settle(number)
    with pytest.raises(NoPlaceError):
        places.find("one", 1000)


def test_a_crowded_source_takes_places_from_itself_alone() -> None:
    places: PlaceTable[str] = PlaceTable(4, share=0.75)
    places.take("other", "two", 0)
    for number in range(3):
        places.take(f"one {number}", "one", 1)
    assert places.take("more", "one", 2) == "one 0"


def test_a_test_that_opens_its_streams_is_not_driven_out_by_the_next_one() -> None:
    places: PlaceTable[str] = PlaceTable(1, patience_s=2)
    places.take("first", "one", 0)
    for source in ("one", "two"):
        with pytest.raises(NoPlaceError):
            places.take("second", source, 1.9)
    assert places.take("second", "two", 2) == "first"


def test_patience_does_not_help_a_flood() -> None:
    places = filled(64, patience_s=2, share=1)
    assert places.take("honest", "elsewhere", 63) == "flood 0"


def test_a_silent_holder_cannot_be_settled_after_it_left() -> None:
    places = filled(1)
    places.take("honest", "elsewhere", 1)
    places.settle("flood 0")
    places.leave("flood 0")
    assert len(places) == 1


def test_each_refused_password_lengthens_the_wait_of_its_source_alone() -> None:
    waits, now_s, pauses = PasswordWaits(), 0.0, []
    for _ in range(8):
        pause_s = waits.reserve("one", now_s)
        assert pause_s is not None
        assert waits.reserve("two", now_s) == 0
        pauses.append(pause_s)
        now_s += pause_s
        waits.refused("one", now_s)
    assert pauses[0] == 0
    assert pauses[1:4] == [0.5, 0.5, 1.0]
    assert pauses == sorted(pauses)
    assert max(pauses) <= LONGEST_WAIT_S


def test_passwords_that_come_at_once_wait_for_each_other() -> None:
    waits = PasswordWaits()
    assert waits.reserve("one", 0) == 0
    waits.refused("one", 0)
    turns = [waits.reserve("one", 0.0) for _ in range(100)]
    granted = [turn for turn in turns if turn is not None]
    assert granted == [0.5 * turn for turn in range(1, 17)]
    assert turns[len(granted) :] == [None] * (100 - len(granted))


def test_a_right_password_or_a_pause_ends_the_waits() -> None:
    waits = PasswordWaits()
    waits.refused("one", 0)
    waits.accepted("one")
    assert waits.reserve("one", 0) == 0
    waits.refused("one", 0)
    assert waits.reserve("one", 10_000) == 0


def test_the_table_of_sources_is_bounded() -> None:
    waits = PasswordWaits()
    for number in range(SOURCES_LIMIT + 10):
        waits.refused(str(number), 0)
    assert waits.reserve("0", 0) == 0
    assert waits.reserve(str(SOURCES_LIMIT), 0)
