"""Whatever a program passes to the Python interface, it gets a result or an error of the tree, and the same
ranges as the command line."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

import iperfpy
from iperfpy import api
from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.request import request_of as request_of_words
from iperfpy.control.option_limits import CLIENT_LIMITS, SERVER_LIMITS, SOCKET_LIMITS
from iperfpy.endpoint.preflight import check_here
from iperfpy.errors import IperfpyError, ParameterError, PlanError
from iperfpy.experiments.compare import CompareKeywords
from iperfpy.experiments.comparison_run import Compare
from iperfpy.experiments.latency_run import LatencyKeywords, LatencyRun
from iperfpy.experiments.path_check import PathCheck
from iperfpy.measure_keywords import (
    DiagnosisKeywords,
    MeasureKeywords,
    ServeKeywords,
    plan_and_options,
    server_options,
)
from iperfpy.protocols.registry import transport, transports

TCP = transport("tcp").settings()
VALUES: list[Any] = [
    *(0, -1, 10**9, 10**20, 10**400, 10**5000, 0.5, 1e300, float("inf"), float("nan"), 1j),
    *("", "x", "\0", "\ud800", "\udcff", "x" * 100_000, b"x", None, True, object()),
    *([], [1], ["x"], ["\0"], [None], [10**20], [object()], {}, {"x": 1}, {"kcp": "text"}, {1: 2}),
    *((1, 2, 3), (10**9,) * 3, (0.5,) * 3, (-1,) * 3, ["udp:1e400"], ["kcp:sndwnd=" + "9" * 30]),
    iperfpy.Credentials(5, "password", b"x"),  # type: ignore[arg-type]
    iperfpy.Authorization(b"x", "/none", skew_s=-1),
    iperfpy.ClientOptions("192.0.2.7", port="x"),  # type: ignore[arg-type]
    iperfpy.ClientOptions("192.0.2.7", port=10**9, family=77),
    iperfpy.ServerOptions(max_tests=0),
    iperfpy.ServerOptions(family=77),
    iperfpy.Plan("tcp", 5),  # type: ignore[arg-type]
    iperfpy.Plan("tcp", TCP, parallel="x"),  # type: ignore[arg-type]
    iperfpy.Plan("tcp", TCP, duration_us=10**400),
]


def measured(keyword: str, value: object) -> None:
    arguments: dict[str, Any] = {"host": "192.0.2.7", keyword: value}
    asyncio.run(api.measure_async(**arguments))


def served(keyword: str, value: object) -> None:
    arguments: dict[str, Any] = {keyword: value}
    asyncio.run(api.serve_async(**arguments))


def diagnosed(keyword: str, value: object) -> None:
    arguments: dict[str, Any] = {"host": "192.0.2.7", keyword: value}
    asyncio.run(iperfpy.diagnose_async(**arguments))


def compared(keyword: str, value: object) -> None:
    arguments: dict[str, Any] = {"host": "192.0.2.7", keyword: value}
    asyncio.run(iperfpy.compare_async(**arguments))


def timed(keyword: str, value: object) -> None:
    arguments: dict[str, Any] = {"host": "192.0.2.7", keyword: value}
    asyncio.run(iperfpy.latency_async(**arguments))


def started(keyword: str, value: object) -> None:
    arguments: dict[str, Any] = {keyword: value}
    iperfpy.LocalServer(**arguments)


CALLS: dict[Callable[[str, object], None], tuple[str, ...]] = {
    measured: ("host", "plan", "on_interval", "sinks", *get_type_hints(MeasureKeywords)),
    served: ("options", "on_listening", "on_run", *get_type_hints(ServeKeywords)),
    diagnosed: ("host", *get_type_hints(DiagnosisKeywords)),
    compared: ("host", "contenders", "on_progress", *get_type_hints(CompareKeywords)),
    timed: ("host", "transports", "on_progress", *get_type_hints(LatencyKeywords)),
    started: ("host", "port", "max_tests"),
}


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call goes as far as the check of its test, and connects to nothing."""

    async def run_client(plan: Any, options: Any, *others: object, **more: object) -> None:
        check_here(plan, options)

    async def run(*others: object, **more: object) -> None:
        return

    monkeypatch.setattr(api, "run_client", run_client)
    monkeypatch.setattr(api, "run_server", run)
    for kind in (Compare, LatencyRun, PathCheck):
        monkeypatch.setattr(kind, "run", run)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("call", "keyword"),
    [
        pytest.param(call, keyword, id=f"{call.__name__}-{keyword}")
        for call, names in CALLS.items()
        for keyword in names
    ],
)
def test_an_argument_is_taken_or_refused_by_an_error_of_the_tree(
    call: Callable[[str, object], None], keyword: str
) -> None:
    refusals = [error for value in VALUES if (error := refusal(call, keyword, value)) is not None]
    assert refusals
    assert {type(one) for one in refusals} == {PlanError}
    assert not [one for one in refusals if "fault" in str(one)]


def refusal(call: Callable[[str, object], None], keyword: str, value: object) -> IperfpyError | None:
    """The error of a call; None if it takes the value. Any other exception ends the test."""
    try:
        call(keyword, value)
    except IperfpyError as error:
        return error
    return None


SECONDS = [0, 0.0005, 0.001, 0.05, 0.1, 1, 86_400, 86_401]
PORTS = [0, 1, 65_535, 65_536]
SAME = [
    ("-c h --connect-timeout", "connect_timeout", 1e3, SECONDS[1:]),  # 0 is "the default" of iperf3's flag
    ("-c h --snd-timeout", "send_timeout", 1e3, SECONDS),
    ("-c h --rcv-timeout", "receive_timeout", 1e3, SECONDS[1:]),
    ("-s --rcv-timeout", "receive_timeout", 1e3, SECONDS[1:]),
    ("-c h -t", "seconds", 1, SECONDS),
    ("-c h -O", "omit", 1, [0, 0.5, 600, 601]),
    ("-c h -i", "interval", 1, [0, 0.05, 0.1, 60, 61]),
    ("-s -i", "interval", 1, [0, 0.05, 0.1, 60, 61]),
    ("-c h -p", "port", 1, PORTS),
    ("-c h --cport", "client_port", 1, PORTS[1:]),
    ("-c h -L", "flow_label", 1, [1, 0xFFFFF, 0x100000]),
    ("-c h -S", "tos", 1, [0, 255, 256]),
    ("-c h -P", "parallel", 1, [1, 128, 129]),
    ("-c h --pacing-timer", "pacing_timer_us", 1, [1, 1 << 31, (1 << 31) + 1]),
    ("-s --max-tests", "max_tests", 1, [-3, 0, 1, 250, 251]),
    ("-s --server-bitrate-limit 1M/", "rate_limit_seconds", 1, [0, 1, 1000, 1001]),
    ("-s --server-max-duration", "longest", 1, [1, 86_400, 86_401]),
    ("-s -1 --idle-timeout", "idle_timeout", 1, [1, 86_400, 86_401]),
]


@pytest.mark.parametrize(("words", "keyword", "scale", "values"), SAME, ids=[one[0] for one in SAME])
def test_a_keyword_has_the_range_of_its_flag(
    words: str, keyword: str, scale: float, values: list[float]
) -> None:
    def accepts(call: Callable[[], object]) -> bool:
        try:
            call()
        except (ParameterError, PlanError):
            return False
        return True

    def by_words(value: float) -> object:
        number = f"{value * scale:g}" if isinstance(value, float) else str(round(value * scale))
        line = f"{words}{number}" if words.endswith("/") else f"{words} {number}"
        request = request_of_words(CommandLine(transports()).parse(line.split()))
        return check_here(request.plan, request.client) if request.plan and request.client else None

    def by_keyword(value: float) -> object:
        if words.startswith("-s"):
            return server_options(None, {keyword: value})
        plan, options = plan_and_options("h", None, {keyword: value})
        return check_here(plan, options)

    found = [accepts(lambda value=value: by_keyword(value)) for value in values]  # type: ignore[misc]
    assert found == [accepts(lambda value=value: by_words(value)) for value in values]  # type: ignore[misc]
    assert set(found) == {True, False}


def test_every_number_of_the_options_has_a_limit() -> None:
    for kind, limits in (
        (iperfpy.ClientOptions, CLIENT_LIMITS),
        (iperfpy.ServerOptions, SERVER_LIMITS),
        (iperfpy.SocketOptions, SOCKET_LIMITS),
    ):
        numbers = {name for name, hint in get_type_hints(kind).items() if hint is int}
        assert numbers - {"family"} == set(limits)


def test_ready_options_have_the_same_limits() -> None:
    for options in (
        iperfpy.ClientOptions("h", port=0),
        iperfpy.ClientOptions("h", connect_timeout_us=0),
        iperfpy.ClientOptions("h", family=int(socket.AF_UNIX)),
        iperfpy.ClientOptions("h", sockets=iperfpy.SocketOptions(keepalive=(1, 2, 10**9))),
    ):
        with pytest.raises(PlanError, match="must be"):
            plan_and_options(options, None, {})
    with pytest.raises(PlanError, match="concurrent tests must be between 1 and 250, not 0"):
        server_options(iperfpy.ServerOptions(max_tests=0), {})


def test_every_stream_needs_a_local_port() -> None:
    for keywords, streams in (({"parallel": 3}, 3), ({"bidirectional": True}, 2)):
        request = plan_and_options("h", None, {"client_port": 65_535, **keywords})
        with pytest.raises(PlanError, match=f"leaves no room for {streams} streams below 65536"):
            check_here(*request)
        fitting = plan_and_options("h", None, {"client_port": 65_536 - streams, **keywords})
        assert check_here(*fitting).name == "tcp"
    typed = request_of_words(CommandLine(transports()).parse(["-c", "h", "--cport", "65535", "-P", "2"]))
    assert typed.plan is not None
    assert typed.client is not None
    with pytest.raises(PlanError, match=r"the client's port 65535 \(--cport\) leaves no room for 2 streams"):
        check_here(typed.plan, typed.client)
