"""Step 2, request: parsed options become a `Plan` and options, after a check for conflicts."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass, replace

from iperfpy.cli.common_flags import TEXT_FORM_NAMES
from iperfpy.cli.exit_status import TEXT_VARIABLE
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.transport_flags import ignored_flags, settings_of
from iperfpy.errors import ParameterError
from iperfpy.options import (
    OWN_TEXT,
    Authorization,
    ClientOptions,
    Credentials,
    OutputOptions,
    ProcessOptions,
    ServerOptions,
    SocketOptions,
)
from iperfpy.plan import DEFAULT_DURATION_US, UNSIZED_BYTES, Direction, Plan, Role
from iperfpy.protocols.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Request:
    """A client's test, if `plan` and `client` are set, or a server. `warnings`: a sentence for each flag that
    is accepted and has no effect."""

    output: OutputOptions
    process: ProcessOptions
    server: ServerOptions | None = None
    plan: Plan | None = None
    client: ClientOptions | None = None
    warnings: tuple[str, ...] = ()


def request_of(parsed: ParsedOptions) -> Request:
    """The request that the options make. Raises `ParameterError`."""
    try:
        _check_role(parsed)
        output, process = _output(parsed), _process(parsed)
        if parsed["server"]:
            if _affinity(parsed)[1] is not None:
                raise ParameterError("-A N,M is for a client; a server (-s) takes one processor: -A N")
            return Request(output, process, server=_server(parsed), warnings=_without_effect(parsed))
        _check_combination(parsed)
        plan = _plan(parsed)
        client, warnings = _client(parsed, plan), _without_effect(parsed)
        return Request(output, process, plan=plan, client=client, warnings=warnings)
    except SettingsError as error:
        raise ParameterError(str(error)) from None


def _ignored(parsed: ParsedOptions) -> list[str]:
    return ignored_flags(parsed.transport, parsed.transports, parsed.shared, parsed.values)


def _without_effect(parsed: ParsedOptions) -> tuple[str, ...]:
    """A sentence for each flag that was typed, is allowed, and has no effect."""
    if parsed["server"]:
        return ("--cport has no effect at a server (-s)",) if parsed["client_port"] else ()
    name = parsed.transport.name
    return tuple(f"{flag} has no effect with --proto {name}" for flag in _ignored(parsed))


def _process(parsed: ParsedOptions) -> ProcessOptions:
    return ProcessOptions(
        daemon=parsed["daemon"],
        pid_file=parsed["pid_file"] or "",
        log_file=parsed["log_file"] or "",
        cpu=_affinity(parsed)[0],
        debug=parsed["debug"] is not None,
    )


def _affinity(parsed: ParsedOptions) -> tuple[int | None, int | None]:
    """The processors of this end and of the server (-A), None if the user named none."""
    chosen: tuple[int | None, int | None] = parsed["affinity"] or (None, None)
    return chosen


def _server(parsed: ParsedOptions) -> ServerOptions:
    rate, seconds = parsed["rate_limit"] or (0, 5)
    bind, sockets = _sockets(parsed, parsed["bind"])
    # A limit of 0 is no limit: click's None for a flag that was not typed becomes one.
    return ServerOptions(
        port=parsed["port"],
        bind=bind,
        family=_family(parsed),
        one_off=parsed["one_off"],
        interval_us=parsed["interval"],
        max_tests=parsed["max_tests"],
        rate_limit_bps=rate,
        rate_window_us=seconds * 1_000_000,
        longest_us=(parsed["longest"] or 0) * 1_000_000,
        idle_us=(parsed["idle"] or 0) * 1_000_000,
        authorization=_authorization(parsed),
        file=parsed["file"] or "",
        sockets=sockets,
    )


def _client(parsed: ParsedOptions, plan: Plan) -> ClientOptions:
    bind, sockets = _sockets(parsed, parsed["bind"])
    host, device = host_and_device(parsed["client"])
    if device:
        sockets = replace(sockets, device=device)
    return ClientOptions(
        host=host,
        port=parsed["port"],
        bind=bind,
        client_port=parsed["client_port"] or 0,
        family=_family(parsed),
        connect_timeout_us=(parsed["connect_timeout"] or 5000) * 1000,
        flow_label=parsed["flow_label"] or 0,
        credentials=_credentials(parsed),
        file=parsed["file"] or "",
        # The end of a file ends the test, as the plan says; -t then only limits how long that may take.
        longest_us=_longest_us(parsed, plan.total_bytes),
        sockets=sockets,
    )


def _credentials(parsed: ParsedOptions) -> Credentials | None:
    user, key = parsed["username"], parsed["public_key"]
    if not (user or key):
        return None
    # A command line without a password need not wait for this import.
    from iperfpy.cli.credentials import credentials_of

    return credentials_of(user, key, pkcs1=parsed["pkcs1"])


def _authorization(parsed: ParsedOptions) -> Authorization | None:
    key, users = parsed["private_key"], parsed["users"]
    if not (key or users):
        return None
    from iperfpy.cli.credentials import authorization_of

    return authorization_of(key, users, skew_s=parsed["skew"], pkcs1=parsed["pkcs1"])


def _sockets(parsed: ParsedOptions, bind: str | None) -> tuple[str, SocketOptions]:
    """The address of -B, and the options of this end's sockets."""
    address, device = host_and_device(bind or "")
    if device and parsed["device"] and device != parsed["device"]:
        raise ParameterError(f"-B names the interface {device}, and --bind-dev {parsed['device']}")
    return address, SocketOptions(
        device=parsed["device"] or device,
        send_timeout_us=(parsed["send_timeout"] or 0) * 1000,
        receive_timeout_us=(parsed["receive_timeout"] or 0) * 1000,
        keepalive=parsed["keepalive"],
    )


def host_and_device(text: str) -> tuple[str, str]:
    """Split iperf3's `host%dev`. After an IPv6 address, `%dev` is the scope and stays part of the address."""
    host, _, device = text.partition("%")
    return (text, "") if ":" in host else (host, device)


def _check_role(parsed: ParsedOptions) -> None:
    """Raise `ParameterError` unless the user asked for one role, and typed no flag of the other."""
    if parsed["server"] and parsed["client"]:
        raise ParameterError("cannot be both a server (-s) and a client (-c)")
    if not parsed["server"] and not parsed["client"]:
        raise ParameterError("must either be a client (-c) or a server (-s)")
    other = Role.CLIENT if parsed["server"] else Role.SERVER
    foreign = parsed.typed_flags(other)
    if foreign:
        raise ParameterError(f"{foreign[0]} is a {other.value} option: {_FOREIGN[other]}")


_FOREIGN = {
    Role.CLIENT: "with -s, each client chooses its test",
    Role.SERVER: "a client (-c) does not have it",
}
"""Role -> the reason why the other role has none of its options."""


def _check_combination(parsed: ParsedOptions) -> None:
    """Raise `ParameterError` if client flags exclude each other, by iperf3's rules."""
    # 0 bytes or blocks stand for no such condition, and `-t 0` for a test that only the user ends.
    ends = [parsed["duration"] is not None, bool(parsed["total_bytes"]), bool(parsed["total_blocks"])]
    if sum(ends) > 1:
        raise ParameterError("only one test end condition (-t, -n, -k) may be specified")
    if parsed["reverse"] and parsed["bidir"]:
        raise ParameterError("cannot be both reverse (-R) and bidirectional (--bidir)")
    streams = parsed["parallel"] * (2 if parsed["bidir"] else 1)
    if parsed["client_port"] and parsed["client_port"] + streams - 1 > 65535:
        raise ParameterError(
            f"--cport {parsed['client_port']} leaves no room for {streams} streams below 65536"
        )


def _plan(parsed: ParsedOptions) -> Plan:
    """The test that the options describe."""
    if parsed["tos"] is not None and parsed["dscp"] is not None:
        raise ParameterError("only one of -S and --dscp may be specified: they are the same byte")
    transport = parsed.transport
    settings = settings_of(transport, parsed.shared, parsed.values, _ignored(parsed))
    total_bytes, total_blocks = parsed["total_bytes"] or _file_bytes(parsed), parsed["total_blocks"] or 0
    # One condition ends a test: an amount of data, or the duration, where 0 stands for "until interrupted".
    duration_us = DEFAULT_DURATION_US if parsed["duration"] is None else parsed["duration"]
    rate, burst = parsed["rate"] or (transport.rate_bps, 0)
    return Plan(
        transport=transport.name,
        settings=settings,
        direction=_direction(parsed),
        duration_us=0 if total_bytes or total_blocks else duration_us,
        total_bytes=total_bytes,
        total_blocks=total_blocks,
        omit_us=parsed["omit"],
        parallel=parsed["parallel"],
        block_bytes=parsed["block_bytes"] or transport.block_bytes(settings),
        fits_path=not parsed["block_bytes"],
        rate_bps=rate,
        burst_blocks=burst,
        interval_us=parsed["interval"],
        title=parsed["title"] or "",
        extra_data=parsed["extra_data"] or "",
        tos=parsed["tos"] or parsed["dscp"] or 0,
        fq_rate_bps=parsed["fq_rate"] or 0,
        pacing_timer_us=parsed["pacing_timer"],
        server_cpu=_affinity(parsed)[1],
        get_server_output=parsed["get_server_output"],
    )


def _file_bytes(parsed: ParsedOptions) -> int:
    """The amount of data that the end of a file (-F) limits, 0 if none is sent: its size, or `UNSIZED_BYTES`
    of a pipe or a device, which only its end, or the time (-t), limits."""
    if not _sends_file(parsed) or parsed["total_blocks"]:
        return 0
    try:
        facts = os.stat(parsed["file"])
        if not stat.S_ISREG(facts.st_mode):
            return UNSIZED_BYTES
        if facts.st_size:
            return facts.st_size
        # The system's own files, such as those of /proc, have content and no size.
        with open(parsed["file"], "rb") as file:
            if file.read(1):
                return UNSIZED_BYTES
    except OSError as error:
        raise ParameterError(f"cannot read the file {parsed['file']}: {error.strerror}") from error
    raise ParameterError(f"the file {parsed['file']} is empty")


def _longest_us(parsed: ParsedOptions, total_bytes: int) -> int:
    """Time limit of a test that sends a file, 0 for none: -t, and its default if the file has no size."""
    if not _sends_file(parsed):
        return 0
    if parsed["duration"] is None:
        return DEFAULT_DURATION_US if total_bytes == UNSIZED_BYTES else 0
    duration_us: int = parsed["duration"]
    return duration_us


def _sends_file(parsed: ParsedOptions) -> bool:
    return bool(parsed["file"]) and not parsed["reverse"] and not parsed["bidir"]


def _direction(parsed: ParsedOptions) -> Direction:
    if parsed["bidir"]:
        return Direction.BIDIRECTIONAL
    return Direction.REVERSE if parsed["reverse"] else Direction.FORWARD


def _family(parsed: ParsedOptions) -> int:
    if parsed["ipv4"] and parsed["ipv6"]:
        raise ParameterError("only one address family (-4, -6) may be specified")
    if parsed["ipv4"]:
        return int(socket.AF_INET)
    return int(socket.AF_INET6) if parsed["ipv6"] else 0


def _output(parsed: ParsedOptions) -> OutputOptions:
    _check_csv(parsed)
    return OutputOptions(
        json=parsed["json"],
        json_stream=parsed["json_stream"] or parsed["json_full"],
        json_full=parsed["json_full"],
        csv=parsed["csv"],
        csv_overwrite=parsed["csv_overwrite"],
        rate_format=parsed["letter"] or "",
        verbose=parsed["verbose"],
        timestamps=parsed["timestamps"] or "",
        interval_us=parsed["interval"],
        text=_text_form(parsed),
    )


def _text_form(parsed: ParsedOptions) -> str:
    """The form of the text, by --text or else by the environment."""
    form: str = parsed["text"] or os.environ.get(TEXT_VARIABLE, "") or OWN_TEXT
    if form not in TEXT_FORM_NAMES:
        names = " or ".join(TEXT_FORM_NAMES)
        raise ParameterError(f"the environment variable {TEXT_VARIABLE} must be {names}, not {form!r}")
    return form


def _check_csv(parsed: ParsedOptions) -> None:
    """Raise `ParameterError` if another flag leaves the CSV no place."""
    if parsed["csv_overwrite"] and parsed["csv"] in (None, "", "-"):
        raise ParameterError("--csv-overwrite needs the file that it replaces: --csv FILE")
    if parsed["csv"] == "-":
        names = ("json", "json_stream", "json_full", "log_file", "daemon")
        taken = next((name for name in names if parsed[name]), "")
        if taken:
            flag = next(one.opts[0] for one in parsed.command.params if one.name == taken)
            raise ParameterError(f"--csv - and {flag} exclude each other: both use standard output")
