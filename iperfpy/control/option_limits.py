"""The limits of the options of one end: one set of rules, for the command line and for a Python program.

    words of a command line --> value_types (these ranges)    --> ClientOptions, ServerOptions
    keywords, ready options --> measure_keywords (the checks) --'

`plan_limits` has those of a test, which both ends share.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from iperfpy.control.authentication import check_cryptography
from iperfpy.control.plan_limits import INT64_MAX, LIMITS, Limit
from iperfpy.errors import PlanError
from iperfpy.options import ClientOptions, ServerOptions, SocketOptions
from iperfpy.plan import Plan
from iperfpy.protocols.units import SECOND_US

LAST_PORT = 65_535
DAY_US = 86_400 * SECOND_US


def time_limit(what: str, minimum_us: int, maximum_us: int, *, zero: bool = False) -> Limit:
    """The range of a time in microseconds, which sentences state in seconds."""
    return Limit(what, minimum_us, maximum_us, unit="seconds", scale=SECOND_US, zero=zero)


CLIENT_LIMITS = {
    "port": Limit("a port", 1, LAST_PORT),
    "client_port": Limit("the client's port", 1, LAST_PORT, zero=True),
    "connect_timeout_us": time_limit("the time to connect", 1_000, DAY_US),
    "flow_label": Limit("a flow label", 1, 0xFFFFF, zero=True),
    "longest_us": time_limit("the duration", 0, DAY_US),
}
SOCKET_LIMITS = {
    "send_timeout_us": time_limit("the time without an ACK", 1_000, DAY_US, zero=True),
    "receive_timeout_us": time_limit("the time without data", 100_000, DAY_US, zero=True),
}
SERVER_LIMITS = {
    "port": Limit("a port", 1, LAST_PORT, zero=True),
    "interval_us": LIMITS["interval_us"],
    "max_tests": Limit("the number of concurrent tests", 1, 250),
    "rate_limit_bps": Limit("the rate of all tests", 0, INT64_MAX, unit="bit/s"),
    "rate_window_us": time_limit("the averaging time of the rate", SECOND_US, 1_000 * SECOND_US),
    "longest_us": time_limit("the longest test", 0, DAY_US),
    "idle_us": time_limit("the time without a client", 0, DAY_US),
}
"""Field of the options -> its range. A field that may be 0 has another rule then: no limit, or any port."""
KEEPALIVE = Limit("a part of keepalive", 0, 32_767)
CLOCK_SKEW_S = Limit("the allowed clock difference", 1, 86_400, unit="seconds")


def check_client_options(options: ClientOptions) -> None:
    """Raise `PlanError` unless every option of a client is allowed."""
    _check(options, CLIENT_LIMITS)
    _check_names(host=options.host, bind=options.bind, file=options.file)
    _check_sockets(options.sockets)
    if options.credentials is not None:
        check_cryptography()


def check_server_options(options: ServerOptions) -> None:
    """Raise `PlanError` unless every option of a server is allowed."""
    _check(options, SERVER_LIMITS)
    _check_names(bind=options.bind, file=options.file)
    _check_sockets(options.sockets)
    if options.authorization is not None:
        check_cryptography()
        CLOCK_SKEW_S.check(options.authorization.skew_s)
        _check_names(users_path=options.authorization.users_path)


def check_client_ports(plan: Plan, options: ClientOptions) -> None:
    """Raise `PlanError` unless every stream of the test has a local port (--cport)."""
    first, streams = options.client_port, plan.stream_count
    if first and first + streams - 1 > LAST_PORT:
        text = f"the client's port {first} (--cport) leaves no room for {streams} streams"
        raise PlanError(f"{text} below {LAST_PORT + 1}")


def _check(options: object, limits: Mapping[str, Limit]) -> None:
    for field, limit in limits.items():
        limit.check(getattr(options, field))


def _check_sockets(options: SocketOptions) -> None:
    _check(options, SOCKET_LIMITS)
    _check_names(device=options.device)
    for part in options.keepalive or ():
        KEEPALIVE.check(part)


def _check_names(**names: str) -> None:
    """Raise `PlanError` for a text that the system cannot take for a name."""
    for what, name in names.items():
        try:
            if b"\0" not in os.fsencode(name):
                continue
        except UnicodeEncodeError:
            pass
        raise PlanError(f"{what} has a character that no name has: {name[:60]!r}")
