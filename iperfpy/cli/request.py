"""What was typed, checked (what goes with what) and turned into a `Plan` and options."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from click.core import ParameterSource

from iperfpy.cli.common_flags import chooser
from iperfpy.cli.transport_flags import SharedFlag, settings_of
from iperfpy.cli.value_types import Flag
from iperfpy.errors import ParameterError
from iperfpy.options import (
    Authorization,
    ClientOptions,
    Credentials,
    OutputOptions,
    ProcessOptions,
    ServerOptions,
    SocketOptions,
)
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport


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

    def typed_flags(self, role: str) -> list[str]:
        """The flags of one role that were typed, as the help shows them."""
        return [
            option.opts[0]
            for option in self._context.command.params
            if isinstance(option, Flag) and option.role == role and self.typed(option.name or "")
        ]


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for: a client's test when `plan` and `client` are there, else a server."""

    output: OutputOptions
    process: ProcessOptions
    server: ServerOptions | None = None
    plan: Plan | None = None
    client: ClientOptions | None = None


def request_of(given: Given, transports: Mapping[str, Transport], shared: Sequence[SharedFlag]) -> Request:
    """What is to be run. Raises `ParameterError`, or `SettingsError` from a transport's settings."""
    check_role(given)
    output, process = _output(given), _process(given)
    if given["server"]:
        if _affinity(given)[1] is not None:
            raise ParameterError("a server (-s) has one processor to choose: -A N")
        return Request(output, process, server=_server(given))
    check_combination(given)
    plan = plan_of(given, transports, shared)
    return Request(output, process, plan=plan, client=_client(given))


def _process(given: Given) -> ProcessOptions:
    return ProcessOptions(
        daemon=given["daemon"],
        pid_file=given["pid_file"] or "",
        log_file=given["log_file"] or "",
        cpu=_affinity(given)[0],
        debug=given["debug"] is not None,
    )


def _affinity(given: Given) -> tuple[int | None, int | None]:
    """Processors of this end and of the server."""
    chosen: tuple[int | None, int | None] = given["affinity"] or (None, None)
    return chosen


def _server(given: Given) -> ServerOptions:
    rate, seconds = given["rate_limit"] or (0, 5)
    bind, sockets = _sockets(given, given["bind"])
    return ServerOptions(
        port=given["port"],
        bind=bind,
        family=_family(given),
        one_off=given["one_off"],
        interval_us=given["interval"],
        max_tests=given["max_tests"],
        rate_limit_bps=rate,
        rate_window_us=seconds * 1_000_000,
        longest_us=(given["longest"] or 0) * 1_000_000,
        idle_us=(given["idle"] or 0) * 1_000_000,
        authorization=_authorization(given),
        file=given["file"] or "",
        sockets=sockets,
    )


def _client(given: Given) -> ClientOptions:
    bind, sockets = _sockets(given, given["bind"])
    host, device = host_and_device(given["client"])
    if device:
        sockets = replace(sockets, device=device)
    return ClientOptions(
        host=host,
        port=given["port"],
        bind=bind,
        client_port=given["client_port"] or 0,
        family=_family(given),
        connect_timeout_us=(given["connect_timeout"] or 5000) * 1000,
        flow_label=given["flow_label"] or 0,
        credentials=_credentials(given),
        file=given["file"] or "",
        longest_us=(given["duration"] or 0) if _sends_file(given) else 0,
        sockets=sockets,
    )


def _credentials(given: Given) -> Credentials | None:
    if not (given["username"] or given["public_key"]):
        return None
    from iperfpy.cli.credentials import credentials_of

    return credentials_of(given)


def _authorization(given: Given) -> Authorization | None:
    if not (given["private_key"] or given["users"]):
        return None
    from iperfpy.cli.credentials import authorization_of

    return authorization_of(given)


def _sockets(given: Given, bind: str | None) -> tuple[str, SocketOptions]:
    """The address of -B, and what is wanted of the sockets of this end."""
    address, device = host_and_device(bind or "")
    if device and given["device"] and device != given["device"]:
        raise ParameterError(f"-B names the interface {device}, and --bind-dev {given['device']}")
    return address, SocketOptions(
        device=given["device"] or device,
        send_timeout_us=(given["send_timeout"] or 0) * 1000,
        receive_timeout_us=(given["receive_timeout"] or 0) * 1000,
        keepalive=given["keepalive"],
    )


def host_and_device(text: str) -> tuple[str, str]:
    """iperf3's `host%dev`. After an IPv6 address, `%dev` is the scope, and stays a part of it."""
    host, _, device = text.partition("%")
    return (text, "") if ":" in host else (host, device)


def check_role(given: Given) -> None:
    """A server or a client, and no flag of the other."""
    if given["server"] and given["client"]:
        raise ParameterError("cannot be both a server (-s) and a client (-c)")
    if not given["server"] and not given["client"]:
        raise ParameterError("must either be a client (-c) or a server (-s)")
    role = "client" if given["server"] else "server"
    foreign = given.typed_flags(role)
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
    name = transport_name(given, transports)
    if given["tos"] is not None and given["dscp"] is not None:
        raise ParameterError("only one of -S and --dscp may be specified: they are the same byte")
    settings = settings_of(name, transports[name], shared, given.values)
    total_bytes, total_blocks = given["total_bytes"] or _file_bytes(given), given["total_blocks"] or 0
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
        extra_data=given["extra_data"] or "",
        tos=given["tos"] or given["dscp"] or 0,
        fq_rate_bps=given["fq_rate"] or 0,
        pacing_timer_us=given["pacing_timer"],
        server_cpu=_affinity(given)[1],
        get_server_output=given["get_server_output"],
    )


def _file_bytes(given: Given) -> int:
    """How much there is to send when that is a file (-F), whose end is the end of the test; else 0."""
    if not _sends_file(given) or given["total_blocks"] is not None:
        return 0
    try:
        size = os.stat(given["file"]).st_size
    except OSError as error:
        raise ParameterError(f"cannot read the file {given['file']}: {error.strerror}") from error
    if not size:
        raise ParameterError(f"the file {given['file']} is empty")
    return size


def _sends_file(given: Given) -> bool:
    return bool(given["file"]) and not given["reverse"] and not given["bidir"]


def transport_name(given: Given, transports: Mapping[str, Transport]) -> str:
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
        json_stream=given["json_stream"] or given["json_full"],
        json_full=given["json_full"],
        csv=given["csv"],
        rate_format=given["letter"] or "",
        verbose=given["verbose"],
        timestamps=given["timestamps"] or "",
        interval_us=given["interval"],
    )
