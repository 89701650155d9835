"""Settings: one dataclass gives the flags, the wire form and the record, and checks every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transport, transports
from iperfpy.protocols.settings import Settings, option, setting_fields


@dataclass(frozen=True, slots=True)
class Example(Settings):
    mtu: int = option(1400, help="payload", minimum=64, maximum=9000, unit="bytes")
    send_window: int | None = option(None, help="window", minimum=1, wire="window")
    mode: str = option("fast", help="preset", choices=("normal", "fast"))
    checksum: bool = option(False, help="verify", flags=("-S", "--checksum"))


@dataclass(frozen=True, slots=True)
class Annotated(Settings):
    """Types with the name of another type in their text."""

    format: Literal["print"] = option("print", help="its text holds the word int")
    boolean: Literal["bool"] | None = option(None, help="its text holds the word bool")
    level: Optional[Literal[1, 2]] = option(1, help="two numbers")  # noqa: UP045 - the older spelling counts
    number: bool = option(False, help="sent as 1", wire_as_number=True)


@dataclass(frozen=True)
class Weighted(Settings):
    weight: float = option(1.0, help="not a type of a setting")


@dataclass(frozen=True)
class Either(Settings):
    either: int | str = option(1, help="two types")


FIELDS = {field.name: field for field in setting_fields(Example)}


def test_only_values_that_differ_from_the_default_are_sent() -> None:
    assert Example().to_wire() == {}
    assert Example(send_window=5, checksum=True).to_wire() == {"window": 5, "checksum": True}


def test_a_record_has_every_field() -> None:
    assert Example(mtu=1200).record() == {
        "mtu": 1200,
        "send_window": None,
        "mode": "fast",
        "checksum": False,
    }


@given(
    st.builds(
        Example,
        mtu=st.integers(64, 9000),
        send_window=st.none() | st.integers(1, 10**9),
        mode=st.sampled_from(("normal", "fast")),
        checksum=st.booleans(),
    )
)
def test_the_peer_receives_equal_settings(settings: Example) -> None:
    assert Example.from_wire(settings.to_wire()) == settings


def test_a_newer_peers_keys_are_ignored() -> None:
    assert Example.from_wire({"mtu": 1200, "colour": "blue"}) == Example(mtu=1200)


@pytest.mark.parametrize(
    ("received", "sentence"),
    [
        ({"mtu": 63}, "mtu must be between 64 and 9000 bytes, not 63 bytes"),
        ({"mtu": 9001}, "mtu must be between 64 and 9000 bytes, not 9001 bytes"),
        ({"mtu": "1400"}, "mtu: expected int, got '1400'"),
        ({"mtu": True}, "mtu: expected int, got True"),
        ({"mtu": 1400.0}, "mtu: expected int, got 1400.0"),
        ({"mtu": None}, "mtu: expected int, got None"),
        ({"window": -1}, "send_window must be at least 1, not -1"),
        ({"mode": "slow"}, "mode must be one of normal, fast, not 'slow'"),
        ({"mode": ["fast"]}, r"mode: expected str, got \['fast'\]"),
        ({"checksum": 1}, "checksum: expected bool, got 1"),
        ({"checksum": {}}, r"checksum: expected bool, got \{\}"),
    ],
)
def test_a_value_of_the_peer_is_checked(received: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=f"^{sentence}$"):
        Example.from_wire(received)


def test_a_value_of_the_user_is_checked() -> None:
    with pytest.raises(SettingsError, match="between 64 and 9000"):
        Example(mtu=10)


def test_none_is_allowed_only_if_it_is_the_default() -> None:
    assert Example(send_window=None).send_window is None
    with pytest.raises(SettingsError):
        Example(mode=None)  # type: ignore[arg-type]  # the wrong type is under test


def test_a_flag_is_generated_unless_it_is_declared() -> None:
    assert FIELDS["send_window"].flags("kcp") == ("--kcp-send-window",)
    assert FIELDS["checksum"].flags("kcp") == ("-S", "--checksum")
    assert FIELDS["mtu"].option.unit == "bytes"


def test_types_are_read_from_the_annotations() -> None:
    assert [field.kind for field in FIELDS.values()] == [int, int, str, bool]
    assert [field.kind for field in setting_fields(Annotated)] == [str, str, int, bool]


def test_a_setting_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a setting must be bool, int or str: weight: <class 'float'>"):
        setting_fields(Weighted)
    with pytest.raises(TypeError, match="a setting must be bool, int or str: either"):
        setting_fields(Either)


def test_a_boolean_may_be_sent_as_a_number() -> None:
    assert Annotated(number=True).to_wire() == {"number": 1}
    assert type(Annotated(number=True).to_wire()["number"]) is int
    assert Annotated.from_wire({"number": 1}) == Annotated(number=True)
    assert Annotated.from_wire({"number": False}) == Annotated()
    with pytest.raises(SettingsError, match=r"^number: expected bool, got 2$"):
        Annotated.from_wire({"number": 2})


def test_the_error_for_an_unknown_transport_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"unknown transport 'x' \(known: tcp, "):
        transport("x")


@pytest.mark.parametrize("name", transports())
def test_the_defaults_of_every_transport_are_valid(name: str) -> None:
    settings = transport(name).settings()
    assert settings.to_wire() == {}
    assert transport(name).block_bytes(settings) > 0
