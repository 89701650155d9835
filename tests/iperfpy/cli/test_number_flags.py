"""Every numeric option rejects a value that is no number in range; every option that takes a name rejects an
empty one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click
import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.commands import (
    compare,
    demo,
    diagnose,
    diff,
    kcp_peer,
    lab_from_csv,
    lab_run,
    latency,
    runs,
    show,
)
from iperfpy.cli.main import main
from iperfpy.cli.usage_errors import sentence
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Setting, setting_fields

COMMANDS: dict[str, Callable[[], click.Command]] = {
    "-c h": lambda: CommandLine(transports()).command,
    "diagnose": diagnose.subcommand,
    "compare": compare.subcommand,
    "latency": latency.subcommand,
    "kcp-peer": kcp_peer.subcommand,
    "runs": runs.subcommand,
    "show": show.subcommand,
    "diff": diff.subcommand,
    "demo": lambda: demo.command,
    "lab": lambda: lab_run.command,
    "lab from-csv": lambda: lab_from_csv.command,
}
NUMBERS = {"SEC", "MS", "US", "N", "N,...", "[N]", "N[,M]", "BYTES", "BLOCKS", "LEN", "SIZE,..."}
NUMBERS |= {"RATE", "RATE[/SEC]", "RATE[/BURST]", "PORT", "CODE", "SHARE", "TIME RATE"}
NUMBERS |= {"[IDLE/INTERVAL/COUNT]"}
NO_NUMBERS = [
    "-1",
    "1e400",
    "nan",
    "inf",
    "9999999999999999999",
    "9" * 5000,
    "",
    "٣",
    "1_0",
    "+5",
    "0x",
    "1 0",
]
NAMES = {"FILE", "[FILE]", "DIR", "NAME", "HOST", "ADDR[%DEV]", "DEV", "COMMAND", "HOST:PORT", "[HOST]:PORT"}
NAMES |= {"[HOST:]PORT", "WAY", "KIND", "LETTER", "FORM"}
OTHER = {
    "TEXT": "may be empty",
    "[FORMAT]": "may be empty",
    "NAME,...": "test_an_empty_list_of_names_is_an_error",
    "WAY,...": "test_an_empty_list_of_names_is_an_error",
    "NAME:KEY=VALUE": "test_an_empty_list_of_names_is_an_error",
    "[s|ms|us]": "a choice",
    "[Gbit|Mbit|kbit|bit|Mbyte|kbyte|byte]": "a choice",
}
"""Values that are neither a number nor a name, each with the reason."""
ZERO = {
    "--seed": "a seed like others",
    "--load-rate": "as much as the path carries",
    "--connect-timeout": "the default, as in iperf3",
    "--tos": "the usual type of service",
    "--dscp": "the usual type of service",
    "--cntl-ka": "the times of the system",
}
"""Options of `diagnose`, `compare`, `latency` and `lab` with a meaning for 0."""


def all_options() -> Iterator[tuple[str, str, str]]:
    """A command, the longest spelling of an option and its kind of value, for each option with a value. Those
    of a transport are settings: they are checked when the transport is known."""
    for name, make in COMMANDS.items():
        command = make()
        for one in command.params:
            if not isinstance(one, click.Option) or one.is_flag or (one.name or "").startswith("setting_"):
                continue
            yield name, max(one.opts, key=len), one.make_metavar(click.Context(command))


ALL_OPTIONS = list(all_options())


def options(metavars: set[str]) -> list[tuple[str, str]]:
    """The options with a value of these kinds."""
    return [(command, flag) for command, flag, metavar in ALL_OPTIONS if metavar in metavars]


def test_every_kind_of_value_is_a_number_a_name_or_another_for_a_reason() -> None:
    assert {metavar for *_, metavar in ALL_OPTIONS} == NUMBERS | NAMES | OTHER.keys()


def refusal(command: str, *words: str) -> str:
    """The sentence about the words; empty if they are accepted."""
    made = COMMANDS[command]()
    try:
        made.make_context(made.name, list(words))
    except click.UsageError as error:
        return sentence(error)
    return ""


@pytest.mark.parametrize(("command", "flag"), options(NUMBERS))
def test_a_text_that_is_no_number_in_range_is_a_sentence(command: str, flag: str) -> None:
    for text in NO_NUMBERS:
        if command == "-c h" and flag in ("--debug", "--cntl-ka") and text == "-1":
            continue  # the value can be left out, and -1 is an option
        said = refusal(command, *([flag, text, "2"] if flag == "--columns" else [f"{flag}={text}"]))
        assert said, (flag, text)
        assert "\n" not in said


@pytest.mark.parametrize(
    ("command", "flag"),
    [one for one in options(NUMBERS) if one[0] in ("diagnose", "compare", "latency", "lab", "lab from-csv")],
)
def test_0_is_refused_where_it_has_no_meaning(command: str, flag: str) -> None:
    words = (flag, "0", "0") if flag == "--columns" else (flag, "0")
    assert bool(refusal(command, *words)) is (flag not in ZERO)


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(one, id=f"{name}-{one.name}")
        for name, transport in transports().items()
        for one in setting_fields(transport.settings)
        if one.kind is int
    ],
)
def test_a_setting_refuses_a_text_that_is_no_number_in_range(setting: Setting) -> None:
    for text in NO_NUMBERS:
        with pytest.raises(SettingsError):
            setting.check(setting.parsed(text))


def test_the_sentence_tells_a_value_from_its_option() -> None:
    assert refusal("latency", "--rounds=x") == (
        "'x' is not a value of --rounds: expected a whole number from 1 to 1000 (--rounds)"
    )


@pytest.mark.parametrize(("command", "flag"), options(NAMES))
def test_an_empty_name_is_an_error(command: str, flag: str) -> None:
    said = refusal(command, f"{flag}=")
    assert said
    assert "\n" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "h", "--proto="],
        ["compare", "h", "--set="],
        ["latency", "h", "--set="],
        ["latency", "h", "--load="],
        ["latency", "h", "--load-direction="],
    ],
)
def test_an_empty_list_of_names_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("iperfpy: parameter error - ")
