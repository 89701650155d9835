"""The command line: what was typed becomes a `Plan` and options, and those are run.

    argv -> rewritten (other spellings) -> click -> checked (what goes with what) -> Plan, ...Options -> run

Nothing here imports numpy, rich or an event loop before a test is about to run: `--help` and
`--version` answer at once.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from iperfpy import __version__
from iperfpy.cli_help import GroupedCommand
from iperfpy.cli_options import CLIENT, SERVER, Flag, base_flags, chooser
from iperfpy.cli_transports import (
    SharedFlag,
    click_flags,
    option_of,
    rewritten,
    settings_of,
    shared_flags,
    spellings_of,
)
from iperfpy.plan import ClientOptions, Direction, OutputOptions, Plan, ServerOptions
from protocols.contract import Transport
from protocols.errors import SettingsError, TransportError

FAILED = 1


class ParameterError(Exception):
    """The command line asks for something that cannot be; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for: a client's test when `plan` and `client` are there, else a server."""

    output: OutputOptions
    server: ServerOptions | None = None
    plan: Plan | None = None
    client: ClientOptions | None = None


class CommandLine:
    """The flags of this program and of every transport it knows.

    Raises `SettingsError` when two of them cannot live together.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self.transports = transports
        base = base_flags(list(transports), {name: one.flags for name, one in transports.items()})
        self.shared = shared_flags(transports, click_flags(base))
        generated = [option_of(one, transports) for one in self.shared]
        self.command = GroupedCommand("iperfpy", params=[*base, *generated], add_help_option=False)

    def parse(self, argv: Sequence[str]) -> Request:
        """Raises `ParameterError`; `click.exceptions.Exit` after help or version were shown."""
        words = rewritten(argv, spellings_of(self.shared))
        try:
            context = self.command.make_context("iperfpy", words)
        except click.UsageError as error:
            raise ParameterError(sentence(error)) from None
        given = Given(context)
        if given["version"]:
            click.echo(f"iperfpy {__version__}")
            raise click.exceptions.Exit(0)
        if given["help"]:
            click.echo(self.command.get_help(context))
            raise click.exceptions.Exit(0)
        try:
            return self._request(given)
        except TransportError as error:
            raise ParameterError(str(error)) from None

    def _request(self, given: Given) -> Request:
        check_role(given)
        family = _family(given)
        output = _output(given)
        if given["server"]:
            server = ServerOptions(
                port=given["port"],
                bind=given["bind"] or "",
                family=family,
                one_off=given["one_off"],
                interval_us=given["interval"],
            )
            return Request(output, server=server)
        check_combination(given)
        client = ClientOptions(
            host=given["client"],
            port=given["port"],
            bind=given["bind"] or "",
            client_port=given["client_port"] or 0,
            family=family,
            connect_timeout_us=(given["connect_timeout"] or 5000) * 1000,
        )
        return Request(output, plan=plan_of(given, self.transports, self.shared), client=client)


class Given:
    """click's parameters, and which of them the user typed."""

    def __init__(self, context: click.Context) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Any:
        return self._context.params[name]

    @property
    def values(self) -> Mapping[str, Any]:
        return self._context.params

    def typed(self, name: str) -> bool:
        return self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    def typed_flags(self, heading: str) -> list[str]:
        """The flags of one heading that were typed, as the help shows them."""
        return [
            option.opts[0]
            for option in self._context.command.params
            if isinstance(option, Flag)
            and option.heading.startswith(heading)
            and self.typed(option.name or "")
        ]


def check_role(given: Given) -> None:
    """A server or a client, and no flag of the other."""
    if given["server"] and given["client"]:
        raise ParameterError("cannot be both a server (-s) and a client (-c)")
    if not given["server"] and not given["client"]:
        raise ParameterError("must either be a client (-c) or a server (-s)")
    if given["server"]:
        foreign, role = [*given.typed_flags(CLIENT), *given.typed_flags("With ")], "client"
    else:
        foreign, role = given.typed_flags(SERVER), "server"
    foreign = [flag for flag in foreign if flag not in ("-p", "-B", "-4", "-6")]
    if foreign:
        raise ParameterError(f"{foreign[0]} is a {role} option: {_OTHER[role]}")


_OTHER = {
    "client": "a server (-s) learns everything about a test from its client",
    "server": "it does not go with a client (-c)",
}


def check_combination(given: Given) -> None:
    """iperf3's rules about which client flags exclude each other."""
    ends = [name for name in ("duration", "total_bytes", "total_blocks") if given[name] is not None]
    if len(ends) > 1:
        raise ParameterError("only one test end condition (-t, -n, -k) may be specified")
    if given["reverse"] and given["bidir"]:
        raise ParameterError("cannot be both reverse (-R) and bidirectional (--bidir)")
    streams = given["parallel"] * (2 if given["bidir"] else 1)
    if given["client_port"] and given["client_port"] + streams - 1 > 65535:
        raise ParameterError(
            f"--cport {given['client_port']} leaves no room for {streams} streams below 65536"
        )


def plan_of(given: Given, transports: Mapping[str, Transport], shared: Sequence[SharedFlag]) -> Plan:
    """The test that was asked for."""
    name = _transport_name(given, transports)
    settings = settings_of(name, transports[name], shared, given.values)
    total_bytes, total_blocks = given["total_bytes"] or 0, given["total_blocks"] or 0
    duration_us = 10_000_000 if given["duration"] is None else given["duration"]
    rate, burst = given["rate"] or (transports[name].rate_bps, 0)
    return Plan(
        transport=name,
        settings=settings,
        direction=_direction(given),
        duration_us=0 if total_bytes or total_blocks else duration_us,
        total_bytes=total_bytes,
        total_blocks=total_blocks,
        omit_us=given["omit"],
        parallel=given["parallel"],
        block_bytes=given["block_bytes"] or transports[name].block_bytes(settings),
        rate_bps=rate,
        burst_blocks=burst,
        interval_us=given["interval"],
        title=given["title"] or "",
    )


def _transport_name(given: Given, transports: Mapping[str, Transport]) -> str:
    """What --proto says, or a flag that selects a transport."""
    chosen = [name for name, one in transports.items() if one.flags and given[chooser(name)]]
    named: str = given["proto"]
    if not chosen:
        return named
    if len(chosen) > 1 or (given.typed("proto") and named != chosen[0]):
        raise ParameterError(f"{transports[chosen[0]].flags[0]} and another transport exclude each other")
    return chosen[0]


def _direction(given: Given) -> Direction:
    if given["bidir"]:
        return Direction.BIDIRECTIONAL
    return Direction.REVERSE if given["reverse"] else Direction.FORWARD


def _family(given: Given) -> int:
    if given["ipv4"] and given["ipv6"]:
        raise ParameterError("only one address family (-4, -6) may be specified")
    if given["ipv4"]:
        return int(socket.AF_INET)
    return int(socket.AF_INET6) if given["ipv6"] else 0


def _output(given: Given) -> OutputOptions:
    return OutputOptions(
        json=given["json"],
        json_stream=given["json_stream"],
        csv=given["csv"],
        rate_format=given["letter"] or "",
        verbose=given["verbose"],
        interval_us=given["interval"],
    )


def sentence(error: click.UsageError) -> str:
    """click's complaint, with the flag at its end where it concerns a value."""
    if isinstance(error, click.NoSuchOption):
        near = f" (did you mean {' or '.join(error.possibilities)}?)" if error.possibilities else ""
        return f"unknown option {error.option_name}{near}"
    text = error.message if isinstance(error, click.BadParameter) else error.format_message()
    text = text.strip().rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None and error.param.opts:
        return f"{text} ({error.param.opts[0]})"
    return text[:1].lower() + text[1:]


def wants_json(argv: Sequence[str]) -> str:
    """Which JSON a command line asks for, as far as that can be told when it could not be parsed."""
    if "--json-stream" in argv:
        return "stream"
    return "document" if "-J" in argv or "--json" in argv else ""


def complain(message: str, argv: Sequence[str] = (), kind: str = "error") -> int:
    """One sentence on stderr, and as `error` in the JSON that was asked for. Gives the exit status."""
    print(f"iperfpy: {kind} - {message}", file=sys.stderr)
    wanted = wants_json(argv)
    if wanted == "stream":
        print(json.dumps({"event": "error", "data": message}), flush=True)
    elif wanted:
        print(
            json.dumps({"start": {}, "intervals": [], "end": {}, "error": message}, indent="\t"), flush=True
        )
    return FAILED


def silence_stdout() -> None:
    """What is still buffered, and what comes, goes nowhere: standard output takes no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; gives the exit status."""
    if sys.stdout is None:  # started with it closed
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        status = dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        return FAILED
    except OSError as error:
        silence_stdout()
        return complain(f"cannot write to standard output: {error.strerror}")
    return status


def dispatch(words: list[str]) -> int:
    """Run the subcommand, or the test, that the words ask for."""
    if words in (["-v"], ["--version"]):
        print(f"iperfpy {__version__}")
        return 0
    if words[:1] == ["demo"]:
        from iperfpy.demo import main as demo

        return demo(words[1:])
    from protocols.registry import transports

    try:
        line = CommandLine(transports())
        if not words:
            print(line.command.get_short_usage(), file=sys.stderr)
            return FAILED
        request = line.parse(words)
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except (ParameterError, SettingsError) as error:
        return complain(str(error), words, "parameter error")
    from iperfpy.cli_run import run

    return run(request)
