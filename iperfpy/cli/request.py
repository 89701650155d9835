"""Step 2, request: parsed options become keywords, after a check for conflicts, and those a plan and options.

`measure_keywords.py` gives keywords their meaning, so that the command line and the Python interface agree.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

from iperfpy.cli.common_flags import TEXT_FORM_NAMES
from iperfpy.cli.exit_status import TEXT_VARIABLE
from iperfpy.cli.named_files import check_options, flag_of
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.secret_flags import check_typed_secrets, secrets_of
from iperfpy.cli.transport_flags import ignored_flags, settings_of
from iperfpy.cli.value_types import host_and_device
from iperfpy.errors import ParameterError, PlanError
from iperfpy.measure_keywords import (
    ConnectionKeywords,
    PlanKeywords,
    ServeKeywords,
    client_options,
    plan_of,
    server_options,
)
from iperfpy.options import (
    OWN_TEXT,
    Authorization,
    ClientOptions,
    Credentials,
    OutputOptions,
    PictureOptions,
    ProcessOptions,
    ServerOptions,
)
from iperfpy.plan import Plan, Role
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import SECOND_US

FLENT_SUFFIX = ".flent.gz"


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
        output, process = output_options(parsed), _process(parsed)
        if parsed["server"]:
            if _affinity(parsed)[1] is not None:
                raise ParameterError("-A N,M is for a client; a server (-s) takes one processor: -A N")
            return Request(output, process, server=_server(parsed), warnings=_without_effect(parsed))
        keywords = _plan_keywords(parsed)
        plan, client = (
            plan_of(parsed.transport, {**keywords, "file": parsed["file"]}),
            _client(parsed, keywords),
        )
        check_typed_secrets(parsed.values, parsed.transports, [(parsed.transport, plan.settings)])
        warnings = _without_effect(parsed)
        return Request(output, process, plan=plan, client=client, warnings=warnings)
    except (PlanError, SettingsError) as error:
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
    bind, device = _bind(parsed)
    # A limit of 0 is no limit: click's None for a flag that was not typed becomes one.
    keywords: ServeKeywords = {
        "port": parsed["port"],
        "bind": bind,
        "family": _family(parsed),
        "one_off": parsed["one_off"],
        "interval": parsed["interval"] / SECOND_US,
        "max_tests": parsed["max_tests"],
        "rate_limit": rate,
        "rate_limit_seconds": seconds,
        "longest": parsed["longest"] or 0,
        "idle_timeout": parsed["idle"] or 0,
        "authorization": _authorization(parsed),
        "file": parsed["file"] or "",
        "secrets": secrets_of(parsed.values, parsed.transports),
        "device": device,
        "receive_timeout": (parsed["receive_timeout"] or 0) / 1000,
        "keepalive": parsed["keepalive"],
    }
    return server_options(None, keywords)


def _client(parsed: ParsedOptions, plan_keywords: PlanKeywords) -> ClientOptions:
    host, connection = connection_of(parsed, parsed["client"])
    keywords: ConnectionKeywords = {
        **connection,
        "client_port": parsed["client_port"] or 0,
        "file": parsed["file"] or "",
        "secrets": secrets_of(parsed.values, parsed.transports),
        "send_timeout": (parsed["send_timeout"] or 0) / 1000,
        "receive_timeout": (parsed["receive_timeout"] or 0) / 1000,
        "probes": not parsed["no_probes"],
    }
    return client_options(host, {**plan_keywords, **keywords})


class Values(Protocol):
    """Values of options by parameter name."""

    def __getitem__(self, name: str) -> Any: ...


def connection_of(parsed: Values, words: str) -> tuple[str, ConnectionKeywords]:
    """The server's host and the keywords of the way to it, from the flags of `common_flags.CONNECTION`.

    `words`: the host as the user typed it, perhaps with an interface. Raises `ParameterError`.
    """
    bind, device = _bind(parsed)
    host, host_device = host_and_device(words)
    return host, {
        "port": parsed["port"],
        "bind": bind,
        "family": _family(parsed),
        "connect_timeout": (parsed["connect_timeout"] or 5000) / 1000,
        "flow_label": parsed["flow_label"] or 0,
        "credentials": _credentials(parsed),
        "device": host_device or device,
        "keepalive": parsed["keepalive"],
    }


def type_of_service(parsed: Values) -> int:
    """The byte of -S or --dscp, 0 without either. Raises `ParameterError`."""
    if parsed["tos"] is not None and parsed["dscp"] is not None:
        raise ParameterError("only one of -S and --dscp may be specified: they are the same byte")
    chosen: int = parsed["tos"] or parsed["dscp"] or 0
    return chosen


def _credentials(parsed: Values) -> Credentials | None:
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


def _bind(parsed: Values) -> tuple[str, str]:
    """The address of -B, and the interface of -B or --bind-dev."""
    address, device = host_and_device(parsed["bind"] or "")
    if device and parsed["device"] and device != parsed["device"]:
        raise ParameterError(f"-B names the interface {device}, and --bind-dev {parsed['device']}")
    return address, parsed["device"] or device


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


def _plan_keywords(parsed: ParsedOptions) -> PlanKeywords:
    """The keywords that describe the test."""
    transport = parsed.transport
    rate, burst = parsed["rate"] or (transport.rate_bps, 0)
    keywords: PlanKeywords = {
        "settings": settings_of(transport, parsed.shared, parsed.values, _ignored(parsed)),
        "reverse": parsed["reverse"],
        "bidirectional": parsed["bidir"],
        "total_bytes": parsed["total_bytes"] or 0,
        "blocks": parsed["total_blocks"] or 0,
        "omit": parsed["omit"] / SECOND_US,
        "parallel": parsed["parallel"],
        "block_bytes": parsed["block_bytes"] or 0,
        "rate": rate,
        "burst_blocks": burst,
        "interval": parsed["interval"] / SECOND_US,
        "title": parsed["title"] or "",
        "extra_data": parsed["extra_data"] or "",
        "tos": type_of_service(parsed),
        "fq_rate": parsed["fq_rate"] or 0,
        "pacing_timer_us": parsed["pacing_timer"],
        "get_server_output": parsed["get_server_output"],
    }
    if parsed["duration"] is not None:
        keywords["seconds"] = parsed["duration"] / SECOND_US
    if (cpu := _affinity(parsed)[1]) is not None:
        keywords["server_cpu"] = cpu
    return keywords


def _family(parsed: Values) -> int | None:
    if parsed["ipv4"] and parsed["ipv6"]:
        raise ParameterError("only one address family (-4, -6) may be specified")
    return 4 if parsed["ipv4"] else 6 if parsed["ipv6"] else None


def output_options(parsed: ParsedOptions) -> OutputOptions:
    """The reports that the flags ask for. Raises `ParameterError`."""
    check_options(parsed.command.params, parsed.values)
    _check_plot(parsed)
    return OutputOptions(
        json=parsed["json"],
        json_stream=parsed["json_stream"] or parsed["json_full"],
        json_full=parsed["json_full"],
        csv=parsed["csv"],
        csv_overwrite=parsed["csv_overwrite"],
        rate_format=parsed["letter"] or "",
        verbose=parsed["verbose"],
        verdict=not parsed["no_verdict"],
        timestamps=parsed["timestamps"] or "",
        interval_us=parsed["interval"],
        text=text_form_of(parsed),
        save=parsed["save"],
        results=parsed["results"] or "",
        pictures=picture_options(parsed),
    )


def picture_options(parsed: Values, *, plot: bool = True) -> PictureOptions:
    """The pictures that the flags ask for. `plot`: the command has --plot and --flent as well. Raises
    `ParameterError`."""
    html, png = parsed["html"] or "", parsed["png"] or ""
    flent = (parsed["flent"] or "") if plot else ""
    if flent and not flent.endswith(FLENT_SUFFIX):
        raise ParameterError(f"the name of --flent must end with {FLENT_SUFFIX}: Flent opens no other files")
    return PictureOptions(html, png, flent, plot and bool(parsed["plot"]))


def text_form_of(parsed: Values) -> str:
    """The form of the text, by --text or else by the environment. Raises `ParameterError`."""
    form: str = parsed["text"] or os.environ.get(TEXT_VARIABLE, "") or OWN_TEXT
    if form not in TEXT_FORM_NAMES:
        names = " or ".join(TEXT_FORM_NAMES)
        raise ParameterError(f"the environment variable {TEXT_VARIABLE} must be {names}, not {form!r}")
    return form


def _check_plot(parsed: ParsedOptions) -> None:
    """Raise `ParameterError` if standard output is for a program to read, and cannot have a plot."""
    if parsed["plot"]:
        taken = next((name for name in ("json", "json_stream", "json_full") if parsed[name]), "")
        if taken or parsed["csv"] == "-":
            other = flag_of(parsed.command.params, taken) if taken else "--csv -"
            raise ParameterError(f"--plot and {other} exclude each other: both use standard output")
