"""Plans encoded as iperf3's parameters, and the decoding of parameters from any peer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from iperfpy.control.parameters import (
    EXTENSION,
    FEATURES,
    ClientRequest,
    check_size,
    decode_hello,
    decode_parameters,
    encode_hello,
    encode_parameters,
    json_integer,
)
from iperfpy.control.plan_limits import check_plan
from iperfpy.errors import PlanError, ProtocolError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Channel, ClientPort, Iperf3Mapping, ServerPort, Stream, Transport
from iperfpy.protocols.metrics import Metric
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings, option


@dataclass(frozen=True, slots=True)
class KnownSettings(Settings):
    """Settings for which iperf3 has keys."""

    window: int | None = option(None, help="buffer", minimum=1, maximum=2**29)
    nodelay: bool = option(False, help="no Nagle")
    congestion: str | None = option(None, help="algorithm")
    mss: int | None = option(None, help="segment", minimum=88, maximum=32767, wire="MSS")


@dataclass(frozen=True, slots=True)
class OwnSettings(Settings):
    """Settings without keys in iperf3."""

    mtu: int = option(1400, help="datagram", minimum=64, maximum=9000)
    fast: bool = option(True, help="quick")


class Known(Transport):
    name = "known"
    summary = "iperf3 knows it"
    prefix = "known"
    settings: ClassVar[type[Settings]] = KnownSettings
    metrics: ClassVar[tuple[Metric, ...]] = ()
    iperf3 = Iperf3Mapping("tcp")

    def block_bytes(self, settings: Settings) -> int:
        return 131072

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        raise AssertionError("not in these tests")

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        raise AssertionError("not in these tests")


class Own(Known):
    name = "own"
    settings: ClassVar[type[Settings]] = OwnSettings
    iperf3 = Iperf3Mapping()

    def block_bytes(self, settings: Settings) -> int:
        return 1000


TRANSPORTS: dict[str, Transport] = {"own": Own(), "known": Known()}
KNOWN = Plan("known", KnownSettings())
OWN = Plan("own", OwnSettings(), block_bytes=1000)
STOCK = {"tcp": True, "omit": 0, "time": 10, "num": 0, "blockcount": 0, "parallel": 1, "len": 131072}


def decode(body: dict[str, Any]) -> ClientRequest:
    return decode_parameters(body, TRANSPORTS)


def test_a_default_plan_has_only_iperf3s_keys() -> None:
    body = encode_parameters(KNOWN, TRANSPORTS["known"], None)
    assert body.pop("client_version").startswith("iperfpy ")
    assert body == {**STOCK, "pacing_timer": 1000}


def test_flags_are_present_only_when_on_and_true() -> None:
    plan = replace(KNOWN, settings=KnownSettings(nodelay=True), direction=Direction.REVERSE)
    body = encode_parameters(plan, TRANSPORTS["known"], None)
    assert body["reverse"] is True
    assert body["nodelay"] is True
    assert not any(value is False for value in body.values())
    assert "bidirectional" not in body


@pytest.mark.parametrize(
    "plan",
    [
        KNOWN,
        replace(KNOWN, direction=Direction.REVERSE, title="a title", extra_data="more"),
        replace(KNOWN, tos=184, fq_rate_bps=10**8, pacing_timer_us=250, server_cpu=0),
        replace(KNOWN, direction=Direction.BIDIRECTIONAL, parallel=3, rate_bps=10**9, burst_blocks=5),
        replace(KNOWN, settings=KnownSettings(window=2**20, nodelay=True, congestion="bbr", mss=1000)),
        replace(KNOWN, duration_us=0, total_bytes=2**40),
        replace(KNOWN, duration_us=0, total_blocks=77, block_bytes=999),
        replace(KNOWN, duration_us=0),
        replace(KNOWN, omit_us=2_000_000),
    ],
)
def test_a_plan_round_trips_through_iperf3s_keys(plan: Plan) -> None:
    body = encode_parameters(plan, TRANSPORTS["known"], None)
    assert EXTENSION not in body
    assert decode(body) == ClientRequest(plan, TRANSPORTS["known"])


@pytest.mark.parametrize(
    "plan",
    [
        OWN,
        replace(OWN, settings=OwnSettings(mtu=500, fast=False)),
        replace(OWN, duration_us=1_500_000, omit_us=250_000, interval_us=100_000),
        replace(KNOWN, settings=KnownSettings(window=5), duration_us=2_250_000, interval_us=0),
        replace(OWN, direction=Direction.BIDIRECTIONAL, parallel=2),
    ],
)
def test_a_plan_round_trips_through_the_extension(plan: Plan) -> None:
    convs = tuple(range(1, plan.stream_count + 1))
    transport = TRANSPORTS[plan.transport]
    body = encode_parameters(plan, transport, convs)
    assert decode(body) == ClientRequest(plan, transport, convs, frozenset((*FEATURES, *transport.features)))


def test_a_transport_unknown_to_iperf3_uses_only_the_extension() -> None:
    body = encode_parameters(OWN, TRANSPORTS["own"], (1,))
    assert not {"tcp", "udp", "sctp", "mtu"} & set(body)
    assert body[EXTENSION]["transport"] == "own"


def test_missing_parameters_get_iperf3s_defaults() -> None:
    plan = decode({}).plan
    assert plan == Plan("known", KnownSettings(), duration_us=10_000_000, block_bytes=131072)


@pytest.mark.parametrize("value", [True, False])
def test_a_present_flag_counts_even_if_false(value: bool) -> None:
    plan = decode({**STOCK, "reverse": value, "nodelay": value}).plan
    assert plan.direction is Direction.REVERSE
    assert plan.settings == KnownSettings(nodelay=True)


@pytest.mark.parametrize(("gso", "gro", "asked"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)])
def test_a_stock_client_may_ask_for_offload(gso: int, gro: int, asked: bool) -> None:
    """A client of iperf3 since 3.21 always sends the numbers of --gsro."""
    body = {"udp": True, "len": 1448, "gso": gso, "gso_dg_size": 1448, "gro": gro, "gro_bf_size": 65507}
    request = decode_parameters(body, transports())
    assert request.transport.iperf3.options(request.plan.settings).offload is asked


@pytest.mark.parametrize("key", ["window", "MSS"])
def test_a_0_from_a_stock_client_is_no_setting(key: str) -> None:
    """0 stands for "not set" in iperf3's parameters."""
    settings = decode_parameters({"tcp": True, key: 0}, transports()).plan.settings
    assert settings == transports()["tcp"].settings()


def test_a_number_does_not_set_a_flag() -> None:
    plan = decode({**STOCK, "tcp": 1, "reverse": 1}).plan
    assert (plan.transport, plan.direction) == ("known", Direction.FORWARD)


def test_a_float_without_fraction_is_an_integer() -> None:
    assert decode({**STOCK, "parallel": 2.0, "window": 4096.0}).plan == Plan(
        "known", KnownSettings(window=4096), parallel=2
    )


def test_a_byte_count_overrides_time_and_block_count() -> None:
    plan = decode({**STOCK, "num": 5, "blockcount": 7}).plan
    assert (plan.duration_us, plan.total_bytes, plan.total_blocks) == (0, 5, 0)


@pytest.mark.parametrize(
    ("change", "i_errno"),
    [
        ({"time": 86401}, 5),
        ({"time": -1}, 5),
        ({"omit": 601}, 12),
        ({"parallel": 0}, 6),
        ({"parallel": 129}, 6),
        ({"len": 0}, 7),
        ({"len": 2 * 1024 * 1024}, 7),
        ({"window": 2**29 + 1}, 8),
        ({"MSS": 32768}, 10),
        ({"burst": 1001}, 15),
        ({"TOS": 256}, 21),
        ({"num": -1}, 114),
        ({"bandwidth": 2**63}, 114),
        ({"parallel": "1"}, 6),
        ({"parallel": True}, 6),
        ({"parallel": None}, 6),
        ({"parallel": 1.5}, 6),
        ({"parallel": [1]}, 6),
        ({"reverse": True, "bidirectional": True}, 25),
        ({"tcp": False, "udp": True}, 131),
        ({"sctp": True}, 131),
        ({"MSS": 1}, 114),
        ({"congestion": 7}, 114),
        ({EXTENSION: 5}, 114),
        ({EXTENSION: {"transport": "nonesuch", "conv": [1]}}, 131),
        ({EXTENSION: {"transport": "own", "conv": []}}, 114),
        ({EXTENSION: {"transport": "own", "conv": [1, 2]}}, 114),
        ({EXTENSION: {"transport": "own", "conv": [0]}}, 114),
        ({EXTENSION: {"transport": "own", "conv": [2**32]}}, 114),
        ({EXTENSION: {"transport": "own", "conv": ["1"]}}, 114),
        ({EXTENSION: {"transport": "own", "conv": [1], "settings": []}}, 114),
        ({EXTENSION: {"transport": "own", "conv": [1], "settings": {"mtu": 1}}}, 114),
        ({EXTENSION: {"transport": "own", "conv": [1], "interval_us": 1}}, 9),
        ({EXTENSION: {"transport": "own", "conv": [1], "duration_us": -1}}, 5),
    ],
)
def test_a_value_out_of_range_is_refused_with_iperf3s_error_number(
    change: dict[str, Any], i_errno: int
) -> None:
    with pytest.raises(PlanError) as raised:
        decode({**STOCK, **change})
    assert raised.value.i_errno == i_errno
    assert len(str(raised.value).splitlines()) == 1


def test_equal_convs_are_refused() -> None:
    with pytest.raises(PlanError, match="2 different"):
        decode({**STOCK, "parallel": 2, EXTENSION: {"transport": "own", "conv": [3, 3]}})


def test_a_title_that_is_no_text_is_none() -> None:
    assert decode({**STOCK, "title": 5}).plan.title == ""


def test_a_plan_is_checked_before_it_is_sent() -> None:
    check_plan(OWN, TRANSPORTS["own"])
    check_size(OWN, TRANSPORTS["own"])
    with pytest.raises(PlanError, match=r"^the number of streams must be between 1 and 128, not 200$"):
        check_plan(replace(OWN, parallel=200), TRANSPORTS["own"])
    with pytest.raises(PlanError, match=r"^the duration must be between 0 and 86400 seconds, not 86400.5$"):
        check_plan(replace(OWN, duration_us=86_400_500_000), TRANSPORTS["own"])
    with pytest.raises(PlanError, match="too long"):
        check_size(replace(OWN, title="x" * 9000), TRANSPORTS["own"])


@pytest.mark.parametrize(
    "change",
    [
        {"parallel": 129},
        {"duration_us": -1},
        {"omit_us": 601_000_000},
        {"interval_us": 50_000},
        {"block_bytes": 2 << 20},
        {"burst_blocks": 1001},
        {"tos": 256},
        {"server_cpu": -1},
        {"rate_bps": 2**63 - 1},
    ],
)
def test_client_and_server_check_a_plan_alike(change: dict[str, Any]) -> None:
    """The client's check before sending and the server's check when decoding give the same error, or none."""
    plan, transport = replace(OWN, **change), TRANSPORTS["own"]
    convs = range(1, plan.stream_count + 1)
    # One case is within the limits, so that two checks that refuse everything would not pass.
    verdicts = []
    for check in (
        lambda: check_plan(plan, transport),
        lambda: decode(encode_parameters(plan, transport, convs)),
    ):
        try:
            check()
        except PlanError as error:
            verdicts.append((str(error), error.i_errno))
        else:
            verdicts.append(("", 0))
    assert verdicts[0] == verdicts[1]
    assert bool(verdicts[0][0]) is (change != {"rate_bps": 2**63 - 1})


def test_a_greeting_lists_the_transports_of_the_server() -> None:
    hello = decode_hello(encode_hello(["tcp", "kcp"]))
    assert hello.transports == ("tcp", "kcp")
    for body in ({}, {"transports": "tcp"}, {"transports": [1]}):
        with pytest.raises(ProtocolError, match="the server"):
            decode_hello(body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (-5, -5),
        (18446744073709551615, -1),
        (2**63, -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (1e3, 1000),
        (1.5, None),
        (True, None),
        ("5", None),
        (None, None),
        (2**64, None),
        (1e300, None),
    ],
)
def test_integers_are_read_as_iperf3_prints_them(value: object, expected: int | None) -> None:
    assert json_integer(value) == expected
