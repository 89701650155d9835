"""Rates, sizes and durations as people write them, and numbers as iperf3 prints them.

Rates are powers of 1000 (bits per second), sizes powers of 1024 (bytes): iperf3's rule, whatever
the case of the suffix. Every parser raises `SettingsError` with one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from iperfpy.protocols.errors import SettingsError

SECOND_US = 1_000_000
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([a-z]*)", re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATIONS_US = {"": SECOND_US, "ms": 1_000, "s": SECOND_US, "m": 60_000_000, "h": 3_600_000_000}
_LARGEST = 1 << 62
"""The largest value accepted: it fits the signed 64 bits of a peer's counter."""

_EXACT_UNITS = (
    *((1024**power, f"{letter}iB") for power, letter in zip(range(6, 0, -1), "EPTGMK", strict=True)),
    *((1000**power, f"{letter}B") for power, letter in zip(range(4, 1, -1), "TGM", strict=True)),
)
"""Bytes of a unit, and its name. A number of thousands, such as 9000, is better known in bytes."""
RATE_LETTERS = "kmgtKMGT"
"""iperf3's -f: bits in powers of 1000, or bytes in powers of 1024."""


def parse_rate(text: str) -> int:
    """Bits per second from `10M`, `1.5g`, `800kbit`, `9600`; 1000-based, any case."""
    return _scaled(text, 1000, "a rate", "k, M, G or T (powers of 1000 bit/s)", ("bit", "bps"), "bit/s")


def parse_size(text: str) -> int:
    """Bytes from `128K`, `1.5M`, `100MiB`, `1400`; 1024-based, any case."""
    return _scaled(text, 1024, "a size", "K, M, G or T (powers of 1024 bytes)", ("ib",), "byte")


def parse_duration_us(text: str) -> int:
    """Microseconds from `10` (seconds), `0.5`, `30s`, `2m`, `1h`, `500ms`."""
    return _bounded(text, _duration_us(text), "microsecond")


def parse_duration_ms(text: str) -> int:
    """Milliseconds from the same texts."""
    return _bounded(text, _duration_us(text) / 1_000, "millisecond")


def parse_rate_and_burst(text: str) -> tuple[int, int]:
    """(bits per second, blocks per burst) from iperf3's `rate[/burst]`; a burst of 0 is "not given"."""
    rate, slash, burst = text.partition("/")
    if not slash:
        return parse_rate(rate), 0
    if not re.fullmatch(r"\d{1,18}", burst, re.ASCII):
        raise SettingsError(f"{text!r} is not a rate with a burst: after the slash goes a number of blocks")
    return parse_rate(rate) if rate else 0, int(burst)


def format_number(value: float) -> str:
    """A number in four places, as in iperf3: 9.87, 98.7, 987."""
    if value < 9.995:
        return f"{value:4.2f}"
    return f"{value:4.1f}" if value < 99.95 else f"{value:4.0f}"


def counted(count: int, noun: str) -> str:
    """`1 test`, `2 tests`: a number and its noun, which has a regular plural."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_size(size_bytes: float) -> str:
    """`3.73 MiB`, `1 byte`: the largest unit that leaves at least one whole, in powers of 1024."""
    value, power = _reduced(size_bytes, 1024)
    if not power:
        return counted(round(size_bytes), "byte")
    return f"{format_number(value).strip()} {size_unit(power)}"


def exact_size(size_bytes: int) -> str:
    """`5 MB`, `1 PiB`, `65507 bytes`: a size in the largest unit that states it without a fraction."""
    found = next((one for one in _EXACT_UNITS if size_bytes and size_bytes % one[0] == 0), None)
    if found is not None:
        return f"{size_bytes // found[0]} {found[1]}"
    return counted(size_bytes, "byte")


def between(low: str, high: str) -> str:
    """`between 5 MB and 1 PiB`, `between 16 and 65507 bytes`: two texts, with common bytes named once."""
    if high.endswith(" bytes"):
        low = low.removesuffix(" bytes").removesuffix(" byte")
    return f"between {low} and {high}"


def format_rate(bits_per_second: float, letter: str = "") -> str:
    """`29.8 Mbit/s`, or in the fixed unit of `letter` (one of `RATE_LETTERS`)."""
    if letter:
        value = bits_per_second / bits_per_rate_unit(letter)
        return f"{format_number(value).strip()} {rate_unit(letter)}"
    value, power = _reduced(bits_per_second, 1000)
    return f"{format_number(value).strip()} {('', 'k', 'M', 'G', 'T')[power]}bit/s"


def rate_unit(letter: str) -> str:
    """The unit of `letter`: `m` is Mbit/s, `M` is MiB/s."""
    if letter in ("k", "m", "g", "t"):
        return {"k": "kbit/s", "m": "Mbit/s", "g": "Gbit/s", "t": "Tbit/s"}[letter]
    return f"{size_unit(_POWERS[letter.lower()])}/s"


def bits_per_rate_unit(letter: str) -> int:
    """Bits in one unit of `letter`: 10^6 for `m`, 8 * 2^20 for `M`."""
    power = _POWERS[letter.lower()]
    return int(1000**power) if letter.islower() else int(8 * 1024**power)


def size_unit(power: int) -> str:
    """Bytes, KiB, MiB, GiB or TiB: the name of 1024^`power` bytes."""
    return ("Bytes", "KiB", "MiB", "GiB", "TiB")[power]


def letter_power(letter: str) -> int:
    """1 for k and K, 2 for m and M, 3 for g and G, 4 for t and T."""
    return _POWERS[letter.lower()]


def _duration_us(text: str) -> float:
    number, suffix = _split(text, "a duration", "ms, s, m or h")
    if suffix not in _DURATIONS_US:
        _reject(text, "a duration", "ms, s, m or h")
    return number * _DURATIONS_US[suffix]


def _scaled(text: str, base: int, kind: str, suffixes: str, units: Sequence[str], least: str) -> int:
    """The number times its power of `base`. `units`: names of the unit that may follow the letter. `least`:
    the unit of the result."""
    number, suffix = _split(text, kind, suffixes)
    unit = next((unit for unit in units if suffix[1:] == unit), "")
    suffix = suffix.removesuffix(unit)
    if suffix not in _POWERS:
        _reject(text, kind, suffixes)
    return _bounded(text, number * base ** _POWERS[suffix], least)


def _split(text: str, kind: str, suffixes: str) -> tuple[float, str]:
    trimmed = text.strip().lower()
    if trimmed.startswith("-"):
        raise SettingsError(f"{text!r} is negative")
    found = _NUMBER.fullmatch(trimmed)
    if found is None or len(trimmed) > 40:
        _reject(text, kind, suffixes)
    return float(found[1]), found[2]


def _bounded(text: str, value: float, unit: str) -> int:
    if value > _LARGEST:
        raise SettingsError(f"{text!r} is too large")
    whole = round(value)
    # 0 often stands for "no limit", which a small number does not mean.
    if value and not whole:
        raise SettingsError(f"{text!r} is too small: the least value above 0 is 1 {unit}")
    return whole


def _reject(text: str, kind: str, suffixes: str) -> NoReturn:
    raise SettingsError(f"{text!r} is not {kind}: expected a number, optionally followed by {suffixes}")


def _reduced(value: float, base: int) -> tuple[float, int]:
    """The value in the largest power of `base` (up to the fourth) that keeps it at 1 or more, as printed."""
    power = 0
    while value >= base - 0.5 and power < 4:
        value /= base
        power += 1
    return value, power


def format_milliseconds(us: float) -> str:
    """`142 ms`, `9.87 ms`: a duration in microseconds, three places."""
    return f"{format_number(us / 1_000).strip()} ms"


def format_percent(share: float) -> str:
    """`1.25 %`: a share of 1, three places."""
    return f"{format_number(100 * share).strip()} %"
