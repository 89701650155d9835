"""`iperfpy kcp-peer HOST:PORT` and `iperfpy kcp-peer --listen [HOST]:PORT`: measure against a program that
speaks KCP and is no iperfpy: a sink, a source or an echo over kcp-go, say. Only this end measures."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from iperfpy.cli.command_line import parse
from iperfpy.cli.common_flags import BOTH, CLIENT, base_flags
from iperfpy.cli.early_error import report_early
from iperfpy.cli.exit_status import DONE, json_form
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.plugin_warnings import warn_of_plugins
from iperfpy.cli.request import output_options, type_of_service
from iperfpy.cli.secret_flags import check_typed_secrets, secret_flags, secrets_of
from iperfpy.cli.transport_flags import (
    SharedFlag,
    click_flags,
    option_of,
    settings_of,
    shared_flags,
    without_conflicts,
)
from iperfpy.cli.value_types import Flag, Parsed, duration, host_and_device, integer, named
from iperfpy.control.plan_limits import LIMITS, check_plan
from iperfpy.errors import IperfpyError, ParameterError, PathError, PlanError, StartError
from iperfpy.measure_keywords import (
    ConnectionKeywords,
    PlanKeywords,
    client_options,
    message_plan_of,
    plan_of,
)
from iperfpy.options import LoneOptions, OutputOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import SECOND_US

if TYPE_CHECKING:
    from iperfpy.cli.outputs import Outputs
    from iperfpy.protocols.contract import SocketAddress
    from iperfpy.records import Sink
    from iperfpy.runtime.abort_scope import AbortScope

SUMMARY = (
    "Measure against a program that speaks KCP and is no iperfpy, such as one over kcp-go. This end sends to"
    " a sink, receives from a source (-R), or measures an echo (--echo). Only this end measures, so the other"
    " end's figures are empty. With --listen the other program dials and sends, or this end sends (-R), or"
    " returns what comes (--echo)."
)
ARGUMENTS = "HOST:PORT | --listen [HOST]:PORT [options]"
HEADING = "Peer"
SHARED = (
    *("proto", "reverse", "duration", "total_bytes", "block_bytes", "rate", "omit", "title", "extra_data"),
    *("client_port", "connect_timeout", "tos", "dscp", "bind", "device", "ipv4", "ipv6"),
    *("interval", "letter", "json", "json_stream", "json_full", "csv", "csv_overwrite", "save", "results"),
    *("plot", "html", "png", "flent", "text", "verbose", "no_verdict", "log_file", "timestamps", "debug"),
    "help",
)
"""Parameters that a test has as well, with the same meaning."""
HELPS = {
    "reverse": "the end that listens sends",
    "duration": "duration of the test, 0: until interrupted [10; of --listen without -R: until the peer is"
    " silent]",
    "total_bytes": "end after this much data",
    "block_bytes": "length of a block, or of a message, in bytes",
    "client_port": "local UDP port",
    "connect_timeout": "give up dialling after MS [5000]",
}


def bare_transports(
    among: Mapping[str, Transport] | None = None,
) -> tuple[dict[str, Transport], dict[str, str]]:
    """The transports with peers of other authors, by name, of all or `among` these; and name -> reason for
    those with flags that contradict the ones of this command."""
    every = transports() if among is None else among
    bare = {name: one for name, one in every.items() if one.bare_peer}
    return without_conflicts(bare, click_flags([*_own_flags(), *_shared_flags(bare)]))


def _own_flags() -> list[click.Option]:
    conv = Parsed("N", integer("a conversation number", 1, 2**32 - 1))
    seconds = Parsed("SEC", duration("--silence", 500_000, 3600 * SECOND_US, zero=False))
    waits = Parsed("SEC", duration("--idle-timeout", 100_000, 86_400 * SECOND_US, zero=False))
    return [
        Flag(
            HEADING,
            ["listen", "--listen"],
            "wait for the peer to dial this address",
            type=Parsed("[HOST]:PORT", named("--listen")),
        ),
        Flag(HEADING, ["echo", "--echo"], "the end that listens returns what it receives", is_flag=True),
        Flag(
            HEADING,
            ["messages", "--rate"],
            "with --echo: N messages per second instead of bulk data, and their round trips",
            type=Parsed("N", integer("--rate", 1, LIMITS["messages_per_s"].maximum)),
        ),
        Flag(
            HEADING,
            ["smux", "--smux", "--smuxver"],
            "the peer is kcptun, which has frames of smux version 1 or 2 [kcptun: 1]; without --compress,"
            " one with --nocomp",
            type=Parsed("N", integer("--smux", 1, 2)),
        ),
        Flag(
            HEADING,
            ["compress", "--compress"],
            "with --smux: the frames are compressed, as kcptun's are without --nocomp; figures are payload"
            " before compression (extra 'snappy')",
            is_flag=True,
        ),
        Flag(HEADING, ["conv", "--conv"], "conversation number [random; with --listen: any]", type=conv),
        Flag(
            HEADING,
            ["silence", "--silence"],
            "take the peer for gone when nothing has come for SEC [5]",
            type=seconds,
            default=5 * SECOND_US,
        ),
        Flag(
            HEADING,
            ["waits", "--idle-timeout"],
            "with --listen: give up if no peer comes within SEC [300]",
            type=waits,
            default=300 * SECOND_US,
        ),
    ]


def _shared_flags(
    known: Mapping[str, Transport], unusable: Mapping[str, str] = MappingProxyType({})
) -> list[click.Option]:
    found = [option for option in base_flags(list(known), {}, unusable) if option.name in SHARED]
    for option in found:
        option.help = HELPS.get(option.name or "", option.help)
        if isinstance(option, Flag) and option.heading == CLIENT:
            option.heading = "Test"
        elif isinstance(option, Flag) and option.heading == BOTH:
            option.heading = "Network"
    return found


def subcommand(among: Mapping[str, Transport] | None = None) -> GroupedCommand:
    """The click command, with new options. `among`: as in `bare_transports`."""
    known, unusable = bare_transports(among)
    return _command(known, unusable, shared_flags(known))


def _command(
    known: Mapping[str, Transport], unusable: Mapping[str, str], shared: Sequence[SharedFlag]
) -> GroupedCommand:
    address = click.Argument(["address"], required=False)
    generated = [option_of(one, known) for one in shared]
    flags = [address, *_own_flags(), *_shared_flags(known, unusable), *generated, *secret_flags(known)]
    return GroupedCommand("iperfpy kcp-peer", params=flags, add_help_option=False)


def _parsed(words: Sequence[str]) -> tuple[ParsedOptions, Mapping[str, str]]:
    """The options that the words set, and name -> reason for the transports that cannot be used."""
    known, unusable = bare_transports()
    shared = shared_flags(known)
    return parse(_command(known, unusable, shared), words, known, shared), unusable


def main(words: Sequence[str]) -> int:
    """Run `iperfpy kcp-peer WORDS`; returns the exit status."""
    parsed, unusable = _parsed(words)
    warn_of_plugins(words, unusable)
    try:
        if parsed["help"]:
            print(command_help(subcommand(), ARGUMENTS, SUMMARY))
            return DONE
        options, plan, output = _lone_options(parsed), _plan(parsed), output_options(parsed)
        check_plan(plan, parsed.transport)
        check_typed_secrets(parsed.values, parsed.transports, [(parsed.transport, plan.settings)])
        parsed.transport.check_secret(plan.settings, options.end.secrets.get(parsed.transport.prefix))
    except (ParameterError, PlanError, SettingsError) as error:
        return report_early(error, words, parsed, "parameter error")
    from iperfpy.cli.process import LogFile

    level = logging.WARNING if parsed["debug"] is None else logging.DEBUG
    try:
        with (log_file := LogFile(parsed["log_file"] or "", json_form(words))).opened():
            try:
                status = _run(plan, options, output, parsed.transport, level)
            except IperfpyError as error:  # reported in here, so that the log file has it, too
                return report_early(error, words, parsed)
        return status or int(log_file.failed)
    except StartError as error:
        return report_early(error, words, parsed)


def stopped(words: Sequence[str], signal: str) -> int:
    """Report a signal that came before a test could. Returns the exit status."""
    error = PathError(f"nothing was measured: the client has terminated by signal {signal}")
    return report_early(error, words, _parsed(words)[0])


def _run(
    plan: Plan, options: LoneOptions, output: OutputOptions, transport: Transport, log_level: int
) -> int:
    """Measure, and write the reports. Returns the exit status. Raises `IperfpyError` before that."""
    from iperfpy.cli.one_test import report_test
    from iperfpy.endpoint.lone_test import run_lone
    from iperfpy.runtime import descriptors
    from iperfpy.runtime.deadlines import Deadlines

    descriptors.raise_limit()
    descriptors.check_start()
    deadlines = Deadlines(quiet_s=options.silence_us / SECOND_US)

    def measure(scope: AbortScope, sinks: Sequence[Sink], outputs: Outputs) -> Awaitable[None]:
        def listening(address: SocketAddress) -> None:
            outputs.listening(address[1])

        return run_lone(
            plan,
            options,
            sinks,
            transport=transport,
            scope=scope,
            deadlines=deadlines,
            on_listening=listening,
        )

    return report_test(plan, output, log_level, measure, None if options.listens else options.end)


# -- from the options to the test


def _lone_options(parsed: ParsedOptions) -> LoneOptions:
    """This end of the test. Raises `ParameterError` or `SettingsError`."""
    dialled, listens = parsed["address"], parsed["listen"]
    if bool(dialled) == bool(listens):
        raise ParameterError("kcp-peer needs either the peer's address, HOST:PORT, or --listen [HOST]:PORT")
    host, port = _host_and_port(listens or dialled, listens=bool(listens))
    host, host_device = host_and_device(host)
    address, device = host_and_device(parsed["bind"] or "")
    if listens and address:
        raise ParameterError(f"--listen names the local address: leave -B {address} out")
    if listens and parsed["client_port"]:
        raise ParameterError("--listen names the local port: leave --cport out")
    if parsed["ipv4"] and parsed["ipv6"]:
        raise ParameterError("only one address family (-4, -6) may be specified")
    keywords: ConnectionKeywords = {
        "bind": address,
        "client_port": parsed["client_port"] or 0,
        "family": 4 if parsed["ipv4"] else 6 if parsed["ipv6"] else None,
        "connect_timeout": (parsed["connect_timeout"] or 5000) / 1000,
        "device": host_device or device or parsed["device"] or "",
        "secrets": secrets_of(parsed.values, parsed.transports),
    }
    return LoneOptions(
        # `client_options` has no port 0, which an end that listens may have.
        end=replace(client_options(host, keywords), port=port),
        listens=bool(listens),
        conv=parsed["conv"] or 0,
        echo=parsed["echo"],
        silence_us=parsed["silence"],
        wait_us=parsed["waits"],
        smux=parsed["smux"] or 0,
        compressed=parsed["compress"],
    )


def _host_and_port(words: str, *, listens: bool) -> tuple[str, int]:
    """Split HOST:PORT, where an IPv6 address stands in brackets. Raises `ParameterError`."""
    host, colon, port = words.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or (":" in host and not bracketed):
        raise ParameterError(f"{words!r} is no HOST:PORT; an IPv6 address stands in brackets, [::1]:5400")
    if not host and not listens:
        raise ParameterError(f"{words!r} names no host: kcp-peer HOST:PORT")
    return host, integer("a port", 0 if listens else 1, 65535)(port)


def _plan(parsed: ParsedOptions) -> Plan:
    """The test. Raises `ParameterError`, `PlanError` or `SettingsError`."""
    transport, listens, echo = parsed.transport, bool(parsed["listen"]), parsed["echo"]
    if parsed["smux"] and parsed["smux"] not in transport.smux_versions:
        raise ParameterError(f"{transport.name} has no streams in smux: leave --smux out")
    if parsed["compress"]:
        if not parsed["smux"]:
            raise ParameterError("--compress is for kcptun: give --smux 1, or 2, as well")
        transport.check_compression()
    if echo and parsed["reverse"]:
        raise ParameterError("--echo goes both ways: leave -R out")
    if parsed["messages"] and (listens or not echo):
        raise ParameterError("--rate is for the end that measures an echo: HOST:PORT --echo --rate N")
    if listens and echo and parsed["total_bytes"]:
        raise ParameterError("an end that echoes does not know how much comes: leave -n out there")
    settings = settings_of(transport, parsed.shared, parsed.values)
    rate, burst = parsed["rate"] or (0, 0)
    keywords: PlanKeywords = {
        "settings": transport.for_messages(settings) if echo and listens else settings,
        "reverse": parsed["reverse"],
        "bidirectional": echo and not listens and not parsed["messages"],
        "total_bytes": parsed["total_bytes"] or 0,
        "omit": parsed["omit"] / SECOND_US,
        "block_bytes": parsed["block_bytes"] or (100 if parsed["messages"] else 0),
        "rate": rate,
        "burst_blocks": burst,
        "interval": parsed["interval"] / SECOND_US,
        "title": parsed["title"] or "",
        "extra_data": parsed["extra_data"] or "",
        "tos": type_of_service(parsed),
    }
    if parsed["duration"] is not None:
        keywords["seconds"] = parsed["duration"] / SECOND_US
    elif listens and not parsed["reverse"] and not parsed["total_bytes"]:
        keywords["seconds"] = 0
    if parsed["messages"]:
        if rate or parsed["total_bytes"]:
            raise ParameterError("--rate counts messages per second: leave -b and -n out")
        return message_plan_of(transport, keywords, parsed["messages"])
    plan = plan_of(transport, keywords)
    return replace(plan, direction=Direction.FORWARD) if listens and echo else plan
