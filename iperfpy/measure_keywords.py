"""From the keywords of `measure` and `serve` to a `Plan` and options. The command line makes keywords, too.

A keyword has the meaning and the default of the iperf3 option beside it. Times are seconds, rates are payload
bits per second, sizes are bytes; the records beneath count microseconds.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypedDict

from iperfpy.argument_types import checked, checked_record, shown
from iperfpy.control.option_limits import check_client_options, check_server_options
from iperfpy.control.plan_limits import LIMITS
from iperfpy.errors import PlanError, from_transport, guarding
from iperfpy.options import (
    DEFAULT_PORT,
    Authorization,
    ClientOptions,
    Credentials,
    ServerOptions,
    SocketOptions,
)
from iperfpy.payload_file_check import check_place, payload_bytes
from iperfpy.plan import DEFAULT_DURATION_US, UNSIZED_BYTES, Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings
from iperfpy.protocols.units import SECOND_US

FAMILIES = {None: 0, 4: int(socket.AF_INET), 6: int(socket.AF_INET6)}


class PlanKeywords(TypedDict, total=False):
    """The test itself: parameters on which both ends agree."""

    transport: str  # --proto, -u ["tcp"]
    settings: Mapping[str, bool | int | str | None] | Settings  # of the transport, by name
    reverse: bool  # -R
    bidirectional: bool  # --bidir
    seconds: float  # -t [10], 0: until it is stopped
    total_bytes: int  # -n
    blocks: int  # -k
    omit: float  # -O, seconds [0]
    parallel: int  # -P, streams per direction [1]
    block_bytes: int  # -l [the transport's]
    rate: float  # -b, bits per second and stream, 0: unlimited [the transport's]
    burst_blocks: int  # -b RATE/BLOCKS
    interval: float  # -i, seconds [1], 0: none
    title: str  # -T
    extra_data: str  # --extra-data
    tos: int  # -S, --dscp
    fq_rate: float  # --fq-rate, bits per second
    pacing_timer_us: int  # --pacing-timer
    server_cpu: int  # -A n,m: m
    get_server_output: bool  # --get-server-output


class ConnectionKeywords(TypedDict, total=False):
    """The client's way to the server, which the server does not see."""

    port: int  # -p [5201]
    bind: str  # -B
    client_port: int  # --cport
    family: int | None  # -4, -6: 4, 6 or None
    connect_timeout: float  # --connect-timeout, seconds [5]
    flow_label: int  # -L
    credentials: Credentials | None  # --username, --rsa-public-key-path
    file: str | os.PathLike[str]  # -F
    device: str  # --bind-dev
    send_timeout: float  # --snd-timeout, seconds
    receive_timeout: float  # --rcv-timeout, seconds
    keepalive: tuple[int, int, int] | None  # --cntl-ka: idle s, interval s, count
    secrets: Mapping[str, bytes]  # --kcp-key-file: by the prefix of the transports, as {"kcp": b"..."}
    probes: bool  # --no-probes: False [True]


class MeasureKeywords(PlanKeywords, ConnectionKeywords, total=False):
    """The keywords of `measure`, `measure_async` and `watch`."""


class DiagnoseKeywords(TypedDict, total=False):
    """The keywords of `diagnose` and `diagnose_async`: the client's way to the server, and its marks."""

    port: int  # -p [5201]
    bind: str  # -B
    family: int | None  # -4, -6: 4, 6 or None
    connect_timeout: float  # --connect-timeout, seconds [5]
    flow_label: int  # -L
    credentials: Credentials | None  # --username, --rsa-public-key-path
    device: str  # --bind-dev
    keepalive: tuple[int, int, int] | None  # --cntl-ka: idle s, interval s, count
    tos: int  # -S, --dscp


class DiagnosisKeywords(DiagnoseKeywords, total=False):
    """All keywords of `diagnose`: those above, and the parameters of the diagnosis itself."""

    quick: bool
    budget_bytes: int
    on_progress: Callable[..., Any] | None


class ServeKeywords(TypedDict, total=False):
    """The keywords of `serve` and `serve_async`."""

    port: int  # -p [5201], 0: any free port
    bind: str  # -B
    family: int | None  # -4, -6
    one_off: bool  # -1
    interval: float  # -i, seconds [1]
    max_tests: int  # concurrent tests [64]
    rate_limit: float  # --server-bitrate-limit, bits per second of all tests
    rate_limit_seconds: float  # averaging time of `rate_limit` [5]
    longest: float  # --server-max-duration, seconds of one test
    idle_timeout: float  # --idle-timeout, seconds, with one_off
    authorization: Authorization | None  # --rsa-private-key-path, --authorized-users-path
    file: str | os.PathLike[str]  # -F
    device: str  # --bind-dev
    receive_timeout: float  # --rcv-timeout, seconds
    keepalive: tuple[int, int, int] | None  # --cntl-ka
    secrets: Mapping[str, bytes]  # --kcp-key-file: as those of a client


class _Ready(TypedDict, total=False):
    """Arguments beside the keywords."""

    host: str | ClientOptions
    plan: Plan | None
    options: ServerOptions | None


def plan_and_options(
    host: str | ClientOptions, plan: Plan | None, keywords: Mapping[str, Any]
) -> tuple[Plan, ClientOptions]:
    """The plan and the options that the arguments of `measure` mean.

    Raises
    ------
    TypeError
        There is no such keyword, or a keyword repeats a part of a ready plan or of ready options.
    PlanError
        A value has another type or is out of range, or two keywords exclude each other.
    """
    _refuse_unknown(keywords, MeasureKeywords.__annotations__)
    checked({"host": host, "plan": plan}, _Ready)
    keywords = checked(keywords, MeasureKeywords)
    # A keyword beside a ready record would be ignored without a word.
    if plan is not None:
        _refuse(keywords, PlanKeywords.__annotations__, "a ready plan")
        plan = checked_record(plan)
    options = _client(host, keywords)
    return plan or plan_of(transport_of(keywords.get("transport", "tcp")), keywords), options


def diagnose_options(host: str | ClientOptions, keywords: Mapping[str, Any]) -> tuple[ClientOptions, int]:
    """The options and the type of service that the arguments of `diagnose` mean. Raises as
    `plan_and_options`."""
    _refuse_unknown(keywords, DiagnoseKeywords.__annotations__)
    checked({"host": host}, _Ready)
    keywords = checked(keywords, DiagnoseKeywords)
    tos: int = keywords.get("tos", 0)
    LIMITS["tos"].check(tos)
    return _client(host, keywords), tos


def _client(host: str | ClientOptions, keywords: Mapping[str, Any]) -> ClientOptions:
    """The client's own options: ready ones, or those that the keywords mean. Raises as `plan_and_options`."""
    if not isinstance(host, ClientOptions):
        return client_options(host, keywords)
    _refuse(keywords, ConnectionKeywords.__annotations__, "ready client options")
    options = checked_record(host)
    _check_family(options.family)
    check_client_options(options)
    return options


def plan_of(transport: Transport, keywords: Mapping[str, Any]) -> Plan:
    """The test that the keywords describe, over the transport that they name. Raises `PlanError`."""
    settings = _settings(transport, keywords.get("settings", {}))
    total_bytes, blocks = keywords.get("total_bytes", 0), keywords.get("blocks", 0)
    # Only a duration that the caller gave counts, 0 as well: the default gives way to the others. 0 bytes or
    # blocks stand for no such end.
    if (keywords.get("seconds") is not None) + bool(total_bytes) + bool(blocks) > 1:
        raise PlanError("only one test end condition (-t, -n, -k) may be specified")
    if not blocks and not total_bytes:
        total_bytes = _file_bytes(keywords)
    with guarding(transport.name):
        usual_bytes = transport.block_bytes(settings)
    return Plan(
        transport=transport.name,
        settings=settings,
        direction=_direction(keywords),
        duration_us=0 if total_bytes or blocks else microseconds("seconds", keywords.get("seconds", 10)),
        total_bytes=total_bytes,
        total_blocks=blocks,
        omit_us=microseconds("omit", keywords.get("omit", 0)),
        parallel=keywords.get("parallel", 1),
        block_bytes=keywords.get("block_bytes") or usual_bytes,
        fits_path=not keywords.get("block_bytes"),
        rate_bps=bits_per_second("rate", keywords.get("rate", transport.rate_bps)),
        burst_blocks=keywords.get("burst_blocks", 0),
        interval_us=microseconds("interval", keywords.get("interval", 1)),
        title=keywords.get("title", ""),
        extra_data=keywords.get("extra_data", ""),
        get_server_output=keywords.get("get_server_output", False),
        tos=keywords.get("tos", 0),
        fq_rate_bps=bits_per_second("fq_rate", keywords.get("fq_rate", 0)),
        pacing_timer_us=keywords.get("pacing_timer_us", 1000),
        server_cpu=keywords.get("server_cpu"),
    )


def message_plan_of(transport: Transport, keywords: Mapping[str, Any], per_s: int) -> Plan:
    """The test with `per_s` messages per second that the keywords describe: `seconds`, `settings`, `tos`, and
    the size of a message as `block_bytes`. Raises `PlanError`."""
    plan = plan_of(transport, {**keywords, "rate": 0})
    with guarding(transport.name):
        settings = transport.for_messages(plan.settings)
    return replace(plan, settings=settings, messages_per_s=per_s)


def client_options(host: str, keywords: Mapping[str, Any]) -> ClientOptions:
    """The client's own options. Raises `PlanError`."""
    options = ClientOptions(
        host=host,
        port=keywords.get("port", DEFAULT_PORT),
        bind=keywords.get("bind", ""),
        client_port=keywords.get("client_port", 0),
        family=_family(keywords.get("family")),
        connect_timeout_us=microseconds("connect_timeout", keywords.get("connect_timeout", 5)),
        flow_label=keywords.get("flow_label", 0),
        credentials=keywords.get("credentials"),
        file=os.fspath(keywords.get("file", "")),
        longest_us=_longest_us(keywords),
        probes=keywords.get("probes", True),
        sockets=_socket_options(keywords),
        secrets=keywords.get("secrets", {}),
    )
    check_client_options(options)
    return options


def server_options(options: ServerOptions | None, keywords: Mapping[str, Any]) -> ServerOptions:
    """The options of a server: ready ones, or those that the keywords mean. Raises as
    `plan_and_options`."""
    _refuse_unknown(keywords, ServeKeywords.__annotations__)
    checked({"options": options}, _Ready)
    keywords = checked(keywords, ServeKeywords)
    if options is not None:
        _refuse(keywords, ServeKeywords.__annotations__, "ready server options")
        options = checked_record(options)
        _check_family(options.family)
    else:
        options = _server_options(keywords)
    check_server_options(options)
    if options.file:
        check_place(options.file, reads=True)
    _check_secrets(options.secrets)
    return options


def _server_options(keywords: Mapping[str, Any]) -> ServerOptions:
    return ServerOptions(
        port=keywords.get("port", DEFAULT_PORT),
        bind=keywords.get("bind", ""),
        family=_family(keywords.get("family")),
        one_off=keywords.get("one_off", False),
        interval_us=microseconds("interval", keywords.get("interval", 1)),
        max_tests=keywords.get("max_tests", 64),
        rate_limit_bps=bits_per_second("rate_limit", keywords.get("rate_limit", 0)),
        rate_window_us=microseconds("rate_limit_seconds", keywords.get("rate_limit_seconds", 5)),
        longest_us=microseconds("longest", keywords.get("longest", 0)),
        idle_us=microseconds("idle_timeout", keywords.get("idle_timeout", 0)),
        authorization=keywords.get("authorization"),
        file=os.fspath(keywords.get("file", "")),
        sockets=_socket_options(keywords),
        secrets=keywords.get("secrets", {}),
    )


def _check_secrets(secrets: Mapping[str, bytes]) -> None:
    """Raise `PlanError` if a server's secret is too short for every test: no client shall hear of it."""
    for transport in transports().values() if secrets else ():
        secret = secrets.get(transport.prefix)
        if secret is not None and len(secret) < transport.least_secret_bytes:
            least = transport.least_secret_bytes
            raise PlanError(f"the {transport.secret} is too short: at least {least} bytes are needed")


def _socket_options(keywords: Mapping[str, Any]) -> SocketOptions:
    return SocketOptions(
        device=keywords.get("device", ""),
        send_timeout_us=microseconds("send_timeout", keywords.get("send_timeout", 0)),
        receive_timeout_us=microseconds("receive_timeout", keywords.get("receive_timeout", 0)),
        keepalive=keywords.get("keepalive"),
    )


def transport_of(name: str) -> Transport:
    """The transport of that name. Raises `PlanError`."""
    try:
        return transport_named(name)
    except TransportError as error:
        raise from_transport(error) from error


def _settings(transport: Transport, wanted: Mapping[str, Any] | Settings) -> Settings:
    """The transport's settings, checked by their own class. Raises `PlanError`."""
    if isinstance(wanted, Settings):
        if not isinstance(wanted, transport.settings):
            raise PlanError(f"{type(wanted).__name__} are not the settings of {transport.name}")
        return wanted
    # Checked here: a dataclass reports an unknown name as a TypeError that lists no alternatives.
    known = transport.settings().record()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise PlanError(f"{transport.name} has no setting {unknown[0]!r} ({has})")
    try:
        return transport.settings(**wanted)
    except TransportError as error:
        raise from_transport(error) from error


def _direction(keywords: Mapping[str, Any]) -> Direction:
    if keywords.get("reverse") and keywords.get("bidirectional"):
        raise PlanError("a test cannot be both reverse (-R) and bidirectional (--bidir)")
    if keywords.get("bidirectional"):
        return Direction.BIDIRECTIONAL
    return Direction.REVERSE if keywords.get("reverse") else Direction.FORWARD


def _sends_file(keywords: Mapping[str, Any]) -> bool:
    return bool(keywords.get("file")) and not (keywords.get("reverse") or keywords.get("bidirectional"))


def _file_bytes(keywords: Mapping[str, Any]) -> int:
    """The amount of data that the end of a file limits, 0 if none is sent. Raises `PlanError`."""
    if not _sends_file(keywords):
        return 0
    return payload_bytes(os.fspath(keywords["file"]))


def _longest_us(keywords: Mapping[str, Any]) -> int:
    """Time limit of a test that the end of a file ends, 0 for none: `seconds`, and its default if the file
    has no size. Where an amount was given, that ends the test."""
    if not _sends_file(keywords):
        return 0
    if keywords.get("seconds") is not None:
        return microseconds("seconds", keywords["seconds"])
    given = keywords.get("blocks") or keywords.get("total_bytes")
    return DEFAULT_DURATION_US if not given and _file_bytes(keywords) == UNSIZED_BYTES else 0


def _family(version: int | None) -> int:
    if version not in FAMILIES:
        raise PlanError(f"family must be 4, 6 or None, not {shown(version)}")
    return FAMILIES[version]


def _check_family(family: int) -> None:
    """Raise `PlanError` unless ready options have an address family that they may have."""
    if family not in FAMILIES.values():
        raise PlanError(f"family must be 0, AF_INET or AF_INET6, not {shown(family)}")


def microseconds(name: str, seconds: float) -> int:
    """The whole number of microseconds. Raises `PlanError` as `_whole`."""
    return _whole(name, seconds, SECOND_US)


def bits_per_second(name: str, rate: float) -> int:
    """The whole number of bits per second. Raises `PlanError` as `_whole`."""
    return _whole(name, rate)


def _whole(name: str, value: float, scale: int = 1) -> int:
    """The nearest whole number to `value` times `scale`. Raises `PlanError` for a negative value, NaN and
    infinities, and for a value above 0 that rounds to 0, as that often stands for "no limit"."""
    # A whole number may be too long for a float, and a float too large for its product.
    if (isinstance(value, float) and not math.isfinite(value)) or value < 0:
        raise PlanError(f"{name} must be a number that is not negative")
    whole = round(value * scale) if value < 2**53 else int(value) * scale
    if value and not whole:
        raise PlanError(f"{name} is too small: {value:g} rounds to 0")
    return whole


def _refuse_unknown(keywords: Iterable[str], known: Mapping[str, Any]) -> None:
    for name in keywords:
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}")


def _refuse(keywords: Iterable[str], repeated: Iterable[str], beside: str) -> None:
    for name in keywords:
        if name in repeated:
            raise TypeError(f"the keyword argument {name!r} cannot be given beside {beside}")
