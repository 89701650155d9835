"""The flags that belong to no transport: iperf3's letters, defaults and units.

Values are parsed here and ranges are checked here, so that whoever reads the result can trust it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from protocols.errors import SettingsError
from protocols.units import RATE_LETTERS, parse_duration_us, parse_rate_and_burst, parse_size

BOTH, SERVER, CLIENT, OUTPUT = "Server or client", "Server", "Client", "Output (server or client)"
SECOND_US = 1_000_000
LONGEST_US = 86_400 * SECOND_US
LONGEST_OMIT_US = 600 * SECOND_US
SHORTEST_INTERVAL_US, LONGEST_INTERVAL_US = 100_000, 60 * SECOND_US
LARGEST_BLOCK = 1 << 20
MOST_STREAMS = 128
MOST_BURST = 1000

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # generic only since click 8.5
    ParamType = click.ParamType


class Parsed(ParamType):
    """A click type made of a function that raises `SettingsError`."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class Flag(click.Option):
    """An option with the heading under which the help lists it."""

    def __init__(self, heading: str, names: Sequence[str], help: str, **attributes: Any) -> None:
        super().__init__(list(names), help=help, **attributes)
        self.heading = heading


def integer(what: str, low: int, high: int) -> Callable[[str], int]:
    """A parser for whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        digits = text.strip()
        sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            raise SettingsError(f"{text!r} is not {what}: expected a whole number from {low} to {high}")
        if not low <= int(sign + digits) <= high:
            raise SettingsError(f"{what} must be from {low} to {high}, not {text}")
        return int(digits)

    return parse


def duration(what: str, low_us: int, high_us: int, zero: bool = True) -> Callable[[str], int]:
    """A parser for durations in microseconds; `zero` allows 0 below `low_us`."""

    def parse(text: str) -> int:
        value = parse_duration_us(text)
        if (value == 0 and zero) or (low_us <= value <= high_us and value):
            return value
        low, high = low_us / SECOND_US, high_us / SECOND_US
        raise SettingsError(f"{what} must be from {low:g} to {high:g} seconds, not {text}")

    return parse


def size(what: str, low: int, high: int) -> Callable[[str], int]:
    """A parser for sizes in bytes."""

    def parse(text: str) -> int:
        value = parse_size(text)
        if not low <= value <= high:
            raise SettingsError(f"{what} must be from {low} to {high} bytes, not {text}")
        return value

    return parse


def rate_and_burst(text: str) -> tuple[int, int]:
    """iperf3's `rate[/burst]`, the burst at most 1000 blocks."""
    rate, burst = parse_rate_and_burst(text)
    if burst > MOST_BURST:
        raise SettingsError(f"a burst must be from 1 to {MOST_BURST} blocks, not {burst}")
    return rate, burst


def one_of(what: str, choices: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise SettingsError(f"{text!r} is not {what}: expected one of {', '.join(choices)}")
        return text

    return parse


def named(what: str) -> Callable[[str], str]:
    """A parser for names that must not be empty (hosts, addresses)."""

    def parse(text: str) -> str:
        if not text.strip():
            raise SettingsError(f"{what} must not be empty")
        return text.strip()

    return parse


def transport_name(known: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise SettingsError(f"unknown transport {text!r} (known: {', '.join(known)})")
        return text

    return parse


PORT = Parsed("PORT", integer("a port", 1, 65535))
TEST_SECONDS = Parsed("SEC", duration("-t", 0, LONGEST_US))
OMIT_SECONDS = Parsed("SEC", duration("-O", 0, LONGEST_OMIT_US))
INTERVAL_SECONDS = Parsed("SEC", duration("-i", SHORTEST_INTERVAL_US, LONGEST_INTERVAL_US))
MILLISECONDS = Parsed("MS", integer("a timeout", 1, 86_400_000))
STREAMS = Parsed("N", integer("the number of streams", 1, MOST_STREAMS))
TOTAL_BYTES = Parsed("BYTES", size("-n", 1, 1 << 62))
BLOCK_BYTES = Parsed("LEN", size("-l", 1, LARGEST_BLOCK))
BLOCKS = Parsed("BLOCKS", size("-k", 1, 1 << 62))
RATE = Parsed("RATE", rate_and_burst)
LETTER = Parsed("LETTER", one_of("a unit", RATE_LETTERS))


def base_flags(known_transports: Sequence[str], chosen_by: Mapping[str, Sequence[str]]) -> list[click.Option]:
    """Fresh options, in the order of the help. `chosen_by`: transport -> flags that select it."""
    return [*_role_flags(), *_client_flags(known_transports, chosen_by), *_output_flags()]


def chooser(transport: str) -> str:
    """The parameter that says whether a flag which selects this transport was given."""
    return f"choose_{transport}".replace("-", "_")


def _role_flags() -> list[click.Option]:
    return [
        Flag(BOTH, ["-p", "--port"], "port to listen on or to connect to [5201]", type=PORT, default=5201),
        Flag(BOTH, ["bind", "-B", "--bind"], "local address to use", type=Parsed("ADDR", named("-B"))),
        Flag(BOTH, ["ipv4", "-4"], "IPv4 only", is_flag=True),
        Flag(BOTH, ["ipv6", "-6"], "IPv6 only", is_flag=True),
        Flag(SERVER, ["server", "-s", "--server"], "run as server", is_flag=True),
        Flag(SERVER, ["one_off", "-1", "--one-off"], "exit after one test", is_flag=True),
    ]


def _client_flags(known: Sequence[str], chosen_by: Mapping[str, Sequence[str]]) -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None, **attributes: Any) -> click.Option:
        if kind is None:
            return Flag(CLIENT, names, help, is_flag=True, **attributes)
        return Flag(CLIENT, names, help, type=kind, **attributes)

    transport = Parsed("NAME", transport_name(known))
    return [
        flag(["client", "-c", "--client"], "run as client", Parsed("HOST", named("-c"))),
        flag(["proto", "--proto"], f"{', '.join(known)} [{known[0]}]", transport, default=known[0]),
        *(
            flag([chooser(name), *flags], f"the same as --proto {name}")
            for name, flags in chosen_by.items()
            if flags
        ),
        flag(["reverse", "-R", "--reverse"], "the server sends"),
        flag(["bidir", "--bidir"], "both ends send"),
        flag(["duration", "-t", "--time"], "measure for this long, 0 without end [10]", TEST_SECONDS),
        flag(["total_bytes", "-n", "--bytes"], "measure until so much was sent", TOTAL_BYTES),
        flag(["total_blocks", "-k", "--blockcount"], "measure until so many blocks were sent", BLOCKS),
        flag(["block_bytes", "-l", "--length"], "block to write at a time, by --proto", BLOCK_BYTES),
        flag(["parallel", "-P", "--parallel"], "parallel streams [1]", STREAMS, default=1),
        flag(
            ["rate", "-b", "--bitrate", "--bandwidth"], "bit/s per stream, 0 without limit, by --proto", RATE
        ),
        flag(["omit", "-O", "--omit"], "leave out the first seconds [0]", OMIT_SECONDS, default=0),
        flag(["client_port", "--cport"], "local data port; stream i uses PORT + i", PORT),
        flag(["connect_timeout", "--connect-timeout"], "give up connecting after [5000]", MILLISECONDS),
        flag(["title", "-T", "--title"], "put TEXT before every line", Parsed("TEXT", str)),
    ]


def _output_flags() -> list[click.Option]:
    def flag(names: Sequence[str], help: str, **attributes: Any) -> click.Option:
        return Flag(OUTPUT, names, help, **attributes)

    return [
        flag(
            ["interval", "-i", "--interval"],
            "seconds between reports, 0 none [1]",
            type=INTERVAL_SECONDS,
            default=SECOND_US,
        ),
        flag(
            ["letter", "-f", "--format"],
            "rates in k m g t (10^3..12 bit/s) or K M G T (KiB/s..) [m]",
            type=LETTER,
        ),
        flag(["json", "-J", "--json"], "one JSON document at the end, with iperf3's keys", is_flag=True),
        flag(["json_stream", "--json-stream"], "a JSON line for everything as it happens", is_flag=True),
        flag(
            ["csv", "--csv"],
            "a CSV row per stream and interval [results/...]",
            type=Parsed("[FILE]", str),
            is_flag=False,
            flag_value="",
        ),
        flag(["verbose", "-V", "--verbose"], "also settings, CPU time, all figures", is_flag=True),
        flag(["version", "-v", "--version"], "show the version and stop", is_flag=True),
        flag(["help", "-h", "--help"], "show this and stop", is_flag=True),
    ]
