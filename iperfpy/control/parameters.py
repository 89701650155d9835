"""The parameters document: a `Plan` as iperf3's JSON, and back.

Two rules of iperf3's readers shape the document. A flag counts when its key is present, whatever its value,
so a flag that is off is left out. A number must be a number, so nothing is quoted.

Fields without a key in iperf3 travel under one key of our own. A stock server never sees it: it is sent only
to a server that sent an iperfpy greeting.

    "iperfpy": {"transport": "kcp", "settings": {...}, "duration_us": n, "omit_us": n,
                "interval_us": n, "conv": [u32, ...], "features": ["udp-address-proof", ...],
                "messages_per_s": n}

`messages_per_s` makes the test a message test (iperfpy/traffic/messages.py): only a server with the feature
`MESSAGES` gets it.

`features` names what a program has beyond the first iperfpy. Either end sends its own, the server in its
greeting, and a feature is used if both have it: an end without it is as old as one that knows none. A
transport has features of its own (`Transport.features`).

A transport with a key in iperf3 (`Transport.iperf3.key`) is also written in iperf3's own words: that key,
and its settings as top-level parameters. This file names iperf3's own transports (`IPERF3_KEYS`) alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iperfpy import __version__
from iperfpy.control.framing import PARAMETERS_LIMIT_BYTES, encode_document
from iperfpy.control.plan_limits import INT64_MAX, LIMITS, Limit, check_plan
from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError, ProtocolError, guarding
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.settings import Settings, setting_fields
from iperfpy.protocols.units import SECOND_US

EXTENSION = "iperfpy"
COOKIE_PREFIX = "iperfpy-"
LONGEST_VERSION = 100
"""Characters of the version in a greeting."""
IPERF3_KEYS = ("udp", "sctp", "tcp")
"""Keys of iperf3's transports: if a client names several, the first one counts. The last is the default."""
ADDRESS_PROOF = "udp-address-proof"
"""The client proves the UDP addresses of its streams, see protocols/datagrams/address_proof.py."""
PATH_EVIDENCE = "path-evidence"
"""Results carry each end's record of the path, see evidence_codec.py."""
MESSAGES = "messages"
"""The server echoes messages (`Plan.messages_per_s`)."""
RESPONSIVENESS = "responsiveness"
"""The server answers probes on new connections, and results carry the self probes of each end's senders."""
FEATURES = (ADDRESS_PROOF, PATH_EVIDENCE, MESSAGES, RESPONSIVENESS)
"""The features of this program, beside those of its transports."""

NUMBERS = {
    "omit": ("the omitted time in seconds", LIMITS["omit_us"].i_errno),
    "time": ("the duration in seconds", LIMITS["duration_us"].i_errno),
    "num": ("the number of bytes", LIMITS["total_bytes"].i_errno),
    "blockcount": ("the number of blocks", LIMITS["total_blocks"].i_errno),
    "parallel": ("the number of streams", LIMITS["parallel"].i_errno),
    "len": ("the block length in bytes", LIMITS["block_bytes"].i_errno),
    "bandwidth": ("the rate in bits per second", LIMITS["rate_bps"].i_errno),
    "burst": ("the number of blocks in a burst", LIMITS["burst_blocks"].i_errno),
    "TOS": ("the type of service", LIMITS["tos"].i_errno),
    "fqrate": ("the rate of the kernel's pacing in bits per second", LIMITS["fq_rate_bps"].i_errno),
    "pacing_timer": ("the pacing timer in microseconds", LIMITS["pacing_timer_us"].i_errno),
    "server_affinity": ("the server's processor", LIMITS["server_cpu"].i_errno),
}
"""Key of iperf3's -> its meaning, and iperf3's i_errno for a value that is no whole number."""

OWN_NUMBERS = {
    "duration_us": ("the duration in microseconds", LIMITS["duration_us"].i_errno),
    "omit_us": ("the omitted time in microseconds", LIMITS["omit_us"].i_errno),
    "interval_us": ("the report interval in microseconds", LIMITS["interval_us"].i_errno),
    "messages_per_s": ("the rate of messages", LIMITS["messages_per_s"].i_errno),
}
"""Key of our extension -> its meaning, and iperf3's i_errno."""

SETTINGS_LIMITS = {
    "window": Limit("the socket buffer", 0, 512 * 1024 * 1024, ErrorNumber.SOCKET_BUFFER, "bytes"),
    "MSS": Limit("the maximum segment size", 0, 32767, ErrorNumber.SEGMENT_SIZE, "bytes"),
}
"""Numbers that are settings of a transport: iperf3 has an i_errno for each, a `SettingsError` has none."""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client's request. `convs`: one per stream, or empty from a stock client. `features`: the client's."""

    plan: Plan
    transport: Transport
    convs: tuple[int, ...] = ()
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Hello:
    """The greeting of an iperfpy server to an iperfpy client. `udp_ports`: name -> port number, for each
    transport that has a UDP port of its own (`Transport.own_udp_port`). `features`: the server's."""

    version: str
    transports: tuple[str, ...]
    udp_ports: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[str] = frozenset()


def encode_hello(
    transports: Iterable[str], udp_ports: Mapping[str, int] | None = None, features: Iterable[str] = ()
) -> dict[str, Any]:
    """The server's greeting. Without `udp_ports`, its key is left out. `features`: those of transports."""
    body: dict[str, Any] = {
        "version": __version__,
        "transports": list(transports),
        "features": [*FEATURES, *features],
    }
    return body | ({"udp_ports": dict(udp_ports)} if udp_ports else {})


def decode_hello(body: Mapping[str, Any]) -> Hello:
    """The greeting that a server sent. Raises `ProtocolError`."""
    names = body.get("transports")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("the server sent a greeting without a list of transports")
    ports = body.get("udp_ports", {})
    if not isinstance(ports, Mapping) or not all(
        type(port) is int and 0 < port < 65536 for port in ports.values()
    ):
        raise ProtocolError("the server sent a greeting with UDP ports that are none")
    version = str(body.get("version", ""))[:LONGEST_VERSION]
    return Hello(version, tuple(names), dict(ports), _features(body))


def encode_parameters(plan: Plan, transport: Transport, convs: Iterable[int] | None) -> dict[str, Any]:
    """The parameters document. `convs` None: the server is a stock one."""
    body: dict[str, Any] = {}
    if transport.iperf3.key:
        body[transport.iperf3.key] = True
    body |= {
        "omit": _whole_seconds(plan.omit_us),
        "time": _whole_seconds(plan.duration_us),
        "num": plan.total_bytes,
        "blockcount": plan.total_blocks,
        "parallel": plan.parallel,
        "len": plan.block_bytes,
        "pacing_timer": plan.pacing_timer_us,
        "client_version": f"iperfpy {__version__}",
    }
    # iperf3 takes every flag that is present for one that is on.
    optional = {
        "reverse": plan.direction is Direction.REVERSE,
        "bidirectional": plan.direction is Direction.BIDIRECTIONAL,
        "bandwidth": plan.rate_bps,
        "burst": plan.burst_blocks,
        "title": plan.title,
        "extra_data": plan.extra_data,
        "TOS": plan.tos,
        "fqrate": plan.fq_rate_bps,
        "get_server_output": int(plan.get_server_output),
    }
    if plan.server_cpu is not None:
        body["server_affinity"] = plan.server_cpu
    if transport.iperf3.key:
        with guarding(transport.name):
            optional |= transport.iperf3_parameters(plan.settings, plan.block_bytes)
    body |= {key: value for key, value in optional.items() if value}
    if convs is not None:
        body[EXTENSION] = {
            "transport": transport.name,
            "settings": plan.settings.to_wire(),
            "duration_us": plan.duration_us,
            "omit_us": plan.omit_us,
            "interval_us": plan.interval_us,
            "conv": list(convs),
            "features": [*FEATURES, *transport.features],
        }
        if plan.messages_per_s:
            body[EXTENSION]["messages_per_s"] = plan.messages_per_s
    return body


def decode_parameters(
    body: Mapping[str, Any], transports: Mapping[str, Transport], interval_us: int = SECOND_US
) -> ClientRequest:
    """The request in a parameters document.

    Parameters
    ----------
    body : the document
    transports : name -> transport, of this server
    interval_us : report interval for a client that names none

    Raises
    ------
    PlanError
        A parameter is out of range or of the wrong type; `i_errno` is iperf3's number for it.
    """
    own = body.get(EXTENSION, {})
    if not isinstance(own, Mapping):
        raise PlanError(f'the parameter "{EXTENSION}" must be an object')
    transport = _choose(body, own, transports)
    for key, limit in SETTINGS_LIMITS.items():
        if (value := _whole_number(body, key, limit.what, limit.i_errno)) is not None:
            limit.check(value)
    settings = _settings(transport, body, own)
    with guarding(transport.name):
        usual_bytes = transport.block_bytes(settings)
    # A value of our extension goes before iperf3's, which is rounded to whole seconds.
    numbers = {key: _number(body, key) for key in NUMBERS}
    timed = not numbers["num"] and not numbers["blockcount"]
    plan = Plan(
        transport=transport.name,
        settings=settings,
        direction=_direction(body),
        duration_us=_duration_us(own, numbers["time"]) if timed else 0,
        total_bytes=numbers["num"] or 0,
        total_blocks=0 if numbers["num"] else numbers["blockcount"] or 0,
        omit_us=_or(_number(own, "omit_us"), (numbers["omit"] or 0) * SECOND_US),
        parallel=_or(numbers["parallel"], 1),
        block_bytes=_or(numbers["len"], usual_bytes),
        rate_bps=numbers["bandwidth"] or 0,
        burst_blocks=numbers["burst"] or 0,
        interval_us=_or(_number(own, "interval_us"), interval_us),
        title=_text(body, "title"),
        extra_data=_text(body, "extra_data"),
        tos=numbers["TOS"] or 0,
        fq_rate_bps=numbers["fqrate"] or 0,
        pacing_timer_us=_or(numbers["pacing_timer"], 1000),
        server_cpu=numbers["server_affinity"],
        get_server_output=json_integer(body.get("get_server_output")) is not None,
        messages_per_s=_number(own, "messages_per_s") or 0,
    )
    check_plan(plan, transport)
    return ClientRequest(plan, transport, _convs(own, plan.stream_count) if own else (), _features(own))


def check_size(plan: Plan, transport: Transport) -> None:
    """Raise `PlanError` if the plan's parameters are longer than a server reads. Only a title and extra data
    can make them so."""
    # Conversation numbers are random: the longest ones make the longest document.
    longest_convs = [2**32 - 1] * plan.stream_count
    if len(encode_document(encode_parameters(plan, transport, longest_convs))) > PARAMETERS_LIMIT_BYTES:
        raise PlanError(f"the title and the extra data are too long ({PARAMETERS_LIMIT_BYTES} bytes at most)")


def json_integer(value: object) -> int | None:
    """A JSON number that is whole, as an int; None when it is not one. Values from 2^63 up are negative
    ones that iperf3 3.12 and 3.13 printed unsigned."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**64:
        return None
    return value - 2**64 if value > INT64_MAX else value


def _choose(
    body: Mapping[str, Any], own: Mapping[str, Any], transports: Mapping[str, Transport]
) -> Transport:
    """The transport that the client names: in our extension, by an iperf3 key, or by neither (TCP)."""
    # Our name goes first: a transport with an iperf3 key is written in both ways.
    name = own.get("transport")
    if isinstance(name, str):
        if name in transports:
            return transports[name]
        raise PlanError(f"this server does not know the transport {name!r}", ErrorNumber.TRANSPORT)
    keys = {known.iperf3.key: known for known in transports.values() if known.iperf3.key}
    asked = [key for key in (*IPERF3_KEYS, *keys) if isinstance(body.get(key), bool)]
    key = asked[0] if asked else IPERF3_KEYS[-1]
    if key not in keys:
        raise PlanError(f"this server does not know the transport {key!r}", ErrorNumber.TRANSPORT)
    return keys[key]


def _settings(transport: Transport, body: Mapping[str, Any], own: Mapping[str, Any]) -> Settings:
    asked = own.get("settings")
    if asked is None:
        asked = _iperf3_settings(transport, body) if transport.iperf3.key else {}
    if not isinstance(asked, Mapping):
        raise PlanError("the transport's settings must be an object")
    try:
        return transport.settings.from_wire(asked)
    except SettingsError as error:
        raise PlanError(str(error)) from error


def _iperf3_settings(transport: Transport, body: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level parameters that are settings, read as iperf3 reads them: a flag is on when present."""
    found: dict[str, Any] = {}
    with guarding(transport.name):
        parameters = dict(transport.iperf3_settings(body))
    for setting in setting_fields(transport.settings):
        key = setting.wire_key
        if key not in parameters:
            continue
        kind, value = setting.kind, parameters[key]
        if kind is bool:
            found[key] = True
        else:
            whole = json_integer(value) if kind is int else None
            found[key] = value if whole is None else whole
    return found


def _direction(body: Mapping[str, Any]) -> Direction:
    reverse, both = (isinstance(body.get(key), bool) for key in ("reverse", "bidirectional"))
    if reverse and both:
        raise PlanError(
            "a test cannot be reverse and bidirectional at once", ErrorNumber.REVERSE_AND_BIDIRECTIONAL
        )
    if both:
        return Direction.BIDIRECTIONAL
    return Direction.REVERSE if reverse else Direction.FORWARD


def _number(body: Mapping[str, Any], key: str) -> int | None:
    """The parameter's value, None if it is absent; `check_plan` judges its range."""
    return _whole_number(body, key, *(NUMBERS | OWN_NUMBERS)[key])


def _whole_number(body: Mapping[str, Any], key: str, what: str, i_errno: int) -> int | None:
    if key not in body:
        return None
    value = json_integer(body[key])
    if value is None:
        raise PlanError(f"{what} ({key}) must be a whole number", i_errno)
    return value


def _duration_us(own: Mapping[str, Any], seconds: int | None) -> int:
    return _or(_number(own, "duration_us"), _or(seconds, 10) * SECOND_US)


def _convs(own: Mapping[str, Any], count: int) -> tuple[int, ...]:
    convs = own.get("conv")
    if not isinstance(convs, list) or len(convs) != count or len(set(map(str, convs))) != count:
        raise PlanError(f"the client must name {count} different conversation numbers")
    if not all(type(conv) is int and 0 < conv < 2**32 for conv in convs):
        raise PlanError("a conversation number must be between 1 and 4294967295")
    return tuple(convs)


def _features(body: Mapping[str, Any]) -> frozenset[str]:
    """The features that the other end names, also those that this program does not know; an older iperfpy
    names none."""
    named = body.get("features")
    return frozenset(name for name in (named if isinstance(named, list) else ()) if isinstance(name, str))


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "")
    return value if isinstance(value, str) else ""


def _whole_seconds(duration_us: int) -> int:
    return -(-duration_us // SECOND_US)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
