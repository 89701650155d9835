"""Parsing and formatting of rates (powers of 1000), sizes (powers of 1024) and durations."""

from __future__ import annotations

import pytest

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import (
    RATE_LETTERS,
    between,
    bits_per_rate_unit,
    counted,
    exact_size,
    format_number,
    format_rate,
    format_size,
    parse_duration_ms,
    parse_duration_us,
    parse_rate,
    parse_rate_and_burst,
    parse_size,
    rate_unit,
)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("0", 0),
        ("9600", 9600),
        ("10M", 10**7),
        ("10m", 10**7),
        ("1.5G", 1_500_000_000),
        (".5k", 500),
        ("1t", 10**12),
    ],
)
def test_rates_are_powers_of_1000(text: str, bits: int) -> None:
    assert parse_rate(text) == bits


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1400", 1400),
        ("128K", 131072),
        ("128k", 131072),
        ("1.5M", 1_572_864),
        ("1g", 1 << 30),
        ("1T", 1 << 40),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("10", 10_000_000),
        ("0.1", 100_000),
        ("30s", 30_000_000),
        ("2m", 120_000_000),
        ("500ms", 500_000),
        ("1h", 3.6e9),
    ],
)
def test_durations_are_in_seconds_unless_a_unit_is_given(text: str, us: float) -> None:
    assert parse_duration_us(text) == us


@pytest.mark.parametrize("parse", [parse_rate, parse_size, parse_duration_us])
@pytest.mark.parametrize(
    "text", ["", "x", "5X", "5 M", "1e9", "M", ".", "0x10", "5MB", "५", "nan", "inf", "1" * 41]
)
def test_a_wrong_unit_is_one_sentence_that_quotes_it(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parse", [parse_rate, parse_size, parse_duration_us, parse_rate_and_burst])
def test_the_error_for_a_negative_number_says_so(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(SettingsError, match="'-5M' is negative"):
        parse("-5M")


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(SettingsError, match="too large"):
        parse_size("99999999T")


@pytest.mark.parametrize(
    ("parse", "text", "unit"),
    [
        (parse_rate, "0.4", "bit/s"),
        (parse_rate, ".0004k", "bit/s"),
        (parse_rate_and_burst, "0.4/4", "bit/s"),
        (parse_size, "0.4", "byte"),
        (parse_size, "0.0001K", "byte"),
        (parse_duration_us, "0.0000001", "microsecond"),
        (parse_duration_us, "0.0004ms", "microsecond"),
        (parse_duration_ms, "0.4ms", "millisecond"),
        (parse_duration_ms, "0.0004s", "millisecond"),
    ],
)
def test_a_number_that_rounds_to_0_is_too_small(parse: object, text: str, unit: str) -> None:
    """0 stands for "no limit", or for "until it is stopped"."""
    assert callable(parse)
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert str(caught.value).endswith(f"is too small: the least value above 0 is 1 {unit}")


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_rate, "0.00", 0),
        (parse_size, "0K", 0),
        (parse_duration_us, "0ms", 0),
        (parse_duration_ms, "1s", 1000),
    ],
)
def test_0_itself_and_whole_numbers_stay(parse: object, text: str, value: int) -> None:
    assert callable(parse)
    assert parse(text) == value


def test_a_rate_may_carry_a_burst() -> None:
    assert parse_rate_and_burst("10M") == (10_000_000, 0)
    assert parse_rate_and_burst("10M/4") == (10_000_000, 4)
    assert parse_rate_and_burst("/4") == (0, 4)
    with pytest.raises(SettingsError, match="burst"):
        parse_rate_and_burst("10M/x")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, " 100"), (987.4, " 987")],
)
def test_numbers_are_shown_in_four_characters(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.00 KiB"),
        (3_911_188, "3.73 MiB"),
        (1 << 50, "1024 TiB"),
    ],
)
def test_sizes_are_shown_in_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (9_000, "9000 bytes"),
        (1 << 10, "1 KiB"),
        (1_500 << 10, "1500 KiB"),
        (5_000_000, "5 MB"),
        (1 << 50, "1 PiB"),
        ((1 << 50) + 1, "1125899906842625 bytes"),
    ],
)
def test_a_bound_is_shown_without_rounding(size: int, text: str) -> None:
    assert exact_size(size) == text


def test_a_range_names_a_common_unit_once() -> None:
    assert between("16 bytes", "65507 bytes") == "between 16 and 65507 bytes"
    assert between("1 byte", "1 MiB") == "between 1 byte and 1 MiB"


@pytest.mark.parametrize(("count", "text"), [(0, "0 tests"), (1, "1 test"), (2, "2 tests")])
def test_a_number_is_followed_by_its_noun(count: int, text: str) -> None:
    assert counted(count, "test") == text


def test_rates_are_shown_in_the_largest_or_the_given_unit() -> None:
    assert format_rate(29_810_000) == "29.8 Mbit/s"
    assert format_rate(999_900) == "1.00 Mbit/s"
    assert format_rate(29_810_000, "k") == "29810 kbit/s"
    assert format_rate(8 * 1024**2, "M") == "1.00 MiB/s"


@pytest.mark.parametrize("letter", RATE_LETTERS)
def test_every_letter_has_a_unit_and_a_size(letter: str) -> None:
    """Lower case: bits by powers of 1000; upper case: bytes by powers of 1024."""
    assert rate_unit(letter).endswith("bit/s" if letter.islower() else "iB/s")
    power = "kmgt".index(letter.lower()) + 1
    assert bits_per_rate_unit(letter) == (1000**power if letter.islower() else 8 * 1024**power)
