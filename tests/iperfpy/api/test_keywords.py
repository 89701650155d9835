"""Keywords give the same plan and options as the corresponding flags of the command line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np
import pytest

import iperfpy
from iperfpy import argument_types
from iperfpy.argument_types import checked
from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.request import Request, request_of
from iperfpy.errors import PlanError
from iperfpy.measure_keywords import (
    ConnectionKeywords,
    DiagnosisKeywords,
    MeasureKeywords,
    PlanKeywords,
    ServeKeywords,
    plan_and_options,
    server_options,
)
from iperfpy.options import ClientOptions, ServerOptions
from iperfpy.plan import UNSIZED_BYTES, Plan
from iperfpy.protocols.registry import transport, transports


def parse(words: list[str]) -> Request:
    return request_of(CommandLine(transports()).parse(words))


@pytest.mark.parametrize(
    ("keywords", "flags"),
    [
        ({}, ""),
        ({"transport": "udp"}, "-u"),
        ({"transport": "udp", "rate": 25e6, "block_bytes": 1000}, "-u -b 25M -l 1000"),
        ({"transport": "kcp", "settings": {"mode": "fast"}}, "--proto kcp --kcp-mode fast"),
        ({"transport": "kcp-bbr", "reverse": True, "seconds": 2.5}, "--proto kcp-bbr -R -t 2.5"),
        ({"settings": {"congestion": "cubic", "nodelay": True}}, "-C cubic -N"),
        ({"bidirectional": True, "parallel": 4}, "--bidir -P 4"),
        ({"total_bytes": 5 << 20}, "-n 5M"),
        ({"blocks": 100, "block_bytes": 4096}, "-k 100 -l 4K"),
        ({"seconds": 0}, "-t 0"),
        ({"omit": 1.5, "interval": 0.5}, "-O 1.5 -i 0.5"),
        ({"interval": 0}, "-i 0"),
        ({"rate": 1e6, "burst_blocks": 10}, "-b 1M/10"),
        ({"title": "night", "extra_data": "x", "tos": 32}, "-T night --extra-data x -S 32"),
        ({"fq_rate": 1e9, "server_cpu": 0}, "--fq-rate 1G -A ,0"),
        ({"port": 5300, "bind": "127.0.0.1", "client_port": 6000}, "-p 5300 -B 127.0.0.1 --cport 6000"),
        ({"family": 4, "connect_timeout": 0.25}, "-4 --connect-timeout 250"),
        ({"family": 6, "flow_label": 7}, "-6 -L 7"),
        ({"get_server_output": True}, "--get-server-output"),
        ({"send_timeout": 2, "receive_timeout": 3}, "--snd-timeout 2000 --rcv-timeout 3000"),
    ],
    ids=str,
)
def test_a_keyword_means_what_the_flag_means(keywords: dict[str, Any], flags: str) -> None:
    expected = parse(["-c", "192.0.2.7", *flags.split()])
    assert plan_and_options("192.0.2.7", None, keywords) == (expected.plan, expected.client)


@pytest.mark.parametrize(
    ("keywords", "flags"),
    [
        ({}, ""),
        ({"port": 5300, "bind": "127.0.0.1", "family": 4}, "-p 5300 -B 127.0.0.1 -4"),
        ({"one_off": True, "idle_timeout": 3, "longest": 9}, "-1 --idle-timeout 3 --server-max-duration 9"),
        ({"rate_limit": 1e9, "rate_limit_seconds": 2}, "--server-bitrate-limit 1G/2"),
        ({"max_tests": 3, "interval": 0.5}, "--max-tests 3 -i 0.5"),
    ],
    ids=str,
)
def test_a_keyword_of_a_server_means_what_the_flag_means(keywords: dict[str, Any], flags: str) -> None:
    assert server_options(None, keywords) == parse(["-s", *flags.split()]).server


def test_a_file_ends_the_test_as_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    path = str(tmp_path / "x")
    for keywords, flags in (
        ({"file": path}, ()),
        ({"file": path, "seconds": 3}, ("-t", "3")),
        ({"file": path, "reverse": True}, ("-R",)),
        ({"file": tmp_path / "x", "blocks": 2}, ("-k", "2")),
    ):
        expected = parse(["-c", "192.0.2.7", "-F", path, *flags])
        assert plan_and_options("192.0.2.7", None, keywords) == (expected.plan, expected.client)
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(PlanError, match=r"the file .*x is empty"):
        plan_and_options("192.0.2.7", None, {"file": path})


@pytest.mark.parametrize(
    ("keywords", "longest_us"),
    [({}, 10_000_000), ({"seconds": 3}, 3_000_000), ({"total_bytes": 1 << 20}, 0), ({"blocks": 2}, 0)],
    ids=str,
)
def test_a_file_without_a_size_is_sent_for_the_time_of_a_test(
    keywords: dict[str, Any], longest_us: int
) -> None:
    plan, options = plan_and_options("192.0.2.7", None, {"file": "/dev/zero", **keywords})
    assert options.longest_us == longest_us
    assert (plan.total_bytes == UNSIZED_BYTES) is not ({"total_bytes", "blocks"} & set(keywords) != set())


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"transport": "carrier"}, "unknown transport 'carrier'"),
        ({"transport": "kcp", "settings": {"mtu": 1}}, "mtu must be between"),
        ({"transport": "kcp", "settings": {"mut": 1400}}, r"kcp has no setting 'mut' \(it has .*mtu"),
        ({"transport": "kcp", "settings": {"mtu": "1400"}}, "mtu: expected int"),
        ({"settings": transport("kcp").settings()}, "KcpSettings are not the settings of tcp"),
        ({"reverse": True, "bidirectional": True}, r"both reverse \(-R\) and bidirectional"),
        ({"seconds": 3, "blocks": 3}, "only one test end condition"),
        ({"total_bytes": 3, "blocks": 3}, "only one test end condition"),
        ({"seconds": -1}, "seconds must be a number that is not negative"),
        ({"seconds": 1e-7}, "seconds is too small"),
        ({"rate": 0.4}, "rate is too small"),
        ({"seconds": float("nan")}, "seconds must be"),
        ({"rate": float("inf")}, "rate must be"),
        ({"port": 0}, "between 1 and 65535, not 0"),
        ({"client_port": 65536}, "must be 0, or between 1 and 65535, not 65536"),
        ({"family": int(socket.AF_INET6)}, "family must be 4, 6 or None"),
        ({"file": "/nonexistent/file"}, "cannot read the file /nonexistent/file: No such file"),
    ],
    ids=str,
)
def test_an_impossible_value_is_a_plan_error(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan_and_options("192.0.2.7", None, keywords)


_SAMPLES: dict[str, Any] = {
    "text": "5M", "number": 2, "half": 0.5, "truth": True, "none": None, "list": [1], "pair": (1, 2),
}  # fmt: skip
"""Values; every keyword refuses most of them."""


@pytest.mark.parametrize("declared", [PlanKeywords, ConnectionKeywords, ServeKeywords, DiagnosisKeywords])
def test_a_value_of_another_type_is_refused_with_a_sentence(declared: type) -> None:
    """Each keyword: a value that is not refused is one that its annotation permits."""
    for name, hint in argument_types._hints(declared).items():
        kinds = {hint, *(get_args(hint) if get_origin(hint) in (Union, UnionType) else ())}
        for value in _SAMPLES.values():
            if {type(value), *((float,) if type(value) is int else ())} & kinds:
                checked({name: value}, declared)
                continue
            with pytest.raises(PlanError, match=f"{name} must be ") as caught:
                checked({name: value}, declared)
            assert name == "secrets" or repr(value) in str(caught.value)


def test_every_call_of_the_python_interface_checks_the_types_of_its_arguments() -> None:
    door: Any = iperfpy
    calls: list[Callable[[], object]] = [
        lambda: door.measure("192.0.2.7", rate="5M"),
        lambda: door.measure(192, seconds=1),
        lambda: door.watch("192.0.2.7", reverse="no"),
        lambda: door.watch("192.0.2.7", {"transport": "udp"}),
        lambda: door.serve(port="5201"),
        lambda: door.serve({"port": 5201}),
        lambda: door.diagnose("192.0.2.7", budget_bytes="50M"),
        lambda: door.diagnose("192.0.2.7", quick="yes"),
        lambda: door.diagnose("192.0.2.7", on_progress=1),
        lambda: door.diagnose("192.0.2.7", connect_timeout="1"),
        lambda: door.compare("192.0.2.7", seconds="soon"),
        lambda: door.compare("192.0.2.7", settings="kcp:sndwnd=512"),
        lambda: door.latency("192.0.2.7", seconds="soon"),
        lambda: door.latency("192.0.2.7", seconds=0),
        lambda: door.latency("192.0.2.7", rounds=0),
        lambda: door.latency("192.0.2.7", rates=[0]),
        lambda: door.latency("192.0.2.7", sizes=100),
        lambda: door.latency("192.0.2.7", sizes=["100"]),
        lambda: door.latency("192.0.2.7", loads="own"),
        lambda: door.latency("192.0.2.7", load_rate="1M"),
        lambda: door.latency("192.0.2.7", connect_timeout="1"),
        lambda: door.LocalServer(port="x"),
    ]
    for call in calls:
        with pytest.raises(PlanError, match=r"must be .*, not "):
            call()


def test_a_measurement_of_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="there is nothing to measure"):
        iperfpy.latency("192.0.2.7", "tcp,kcp", rates=[])


def test_numbers_of_numpy_become_those_of_python() -> None:
    """JSON has no others: the parameters of a test could not be sent."""
    values = {"rate": np.float32(1e6), "parallel": np.int64(2), "tos": np.uint8(4), "port": np.int32(5300)}
    plan, options = plan_and_options("192.0.2.7", None, values)
    assert (plan.rate_bps, plan.parallel, plan.tos, options.port) == (1_000_000, 2, 4, 5300)
    ready = replace(plan, parallel=np.int64(3))  # type: ignore[arg-type]
    plan, _ = plan_and_options("192.0.2.7", ready, {})
    assert {type(one) for one in (plan.rate_bps, plan.parallel, plan.tos, options.port)} == {int}


def test_a_secret_of_another_type_is_in_no_sentence() -> None:
    for secrets in ({"kcp": "do not show"}, "do not show"):
        with pytest.raises(PlanError, match="secrets must be a mapping from texts to bytes") as caught:
            plan_and_options("192.0.2.7", None, {"secrets": secrets})
        assert "do not show" not in str(caught.value)


def test_a_keyword_beside_a_ready_plan_or_ready_options_is_a_type_error() -> None:
    plan = Plan("tcp", transport("tcp").settings())
    options = ClientOptions("192.0.2.7", port=1)
    assert plan_and_options(options, plan, {}) == (plan, options)
    assert plan_and_options(options, None, {"seconds": 4})[1] is options
    assert plan_and_options("192.0.2.8", plan, {"port": 3}) == (plan, ClientOptions("192.0.2.8", 3))
    with pytest.raises(TypeError, match="'seconds' cannot be given beside a ready plan"):
        plan_and_options("192.0.2.7", plan, {"seconds": 4})
    with pytest.raises(TypeError, match="'port' cannot be given beside ready client options"):
        plan_and_options(options, plan, {"port": 4})
    with pytest.raises(TypeError, match="'port' cannot be given beside ready server options"):
        server_options(ServerOptions(), {"port": 4})
    assert server_options(ServerOptions(port=3), {}) == ServerOptions(port=3)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'second'"):
        plan_and_options("192.0.2.7", None, {"second": 4})
    with pytest.raises(TypeError, match="unexpected keyword argument 'reverse'"):
        server_options(None, {"reverse": True})


def test_settings_may_be_an_object() -> None:
    for name, one in transports().items():
        ready = one.settings()
        assert plan_and_options("h", None, {"transport": name, "settings": ready})[0].settings is ready


def test_the_groups_of_keywords_are_disjoint() -> None:
    assert not set(PlanKeywords.__annotations__) & set(ConnectionKeywords.__annotations__)
    both = set(PlanKeywords.__annotations__) | set(ConnectionKeywords.__annotations__)
    assert set(MeasureKeywords.__annotations__) == both
    assert "port" in ServeKeywords.__annotations__


def test_a_server_may_listen_on_any_free_port() -> None:
    assert server_options(None, {"port": 0}).port == 0
