"""Message tests over real sockets, of every transport that can, and servers that cannot."""

from __future__ import annotations

import pytest

from iperfpy import __version__
from iperfpy.control import parameters
from iperfpy.errors import PlanError
from iperfpy.experiments.latency_run import LatencyRun, messengers, steps_of
from iperfpy.experiments.message_probe import BulkLoad, MessageTest, measure_messages
from iperfpy.options import ClientOptions
from iperfpy.protocols.registry import transports
from iperfpy.records import UNANSWERED
from iperfpy.report.latency_text import lines
from iperfpy.sampling.clock_difference import Basis, fault, told
from iperfpy.sampling.host import system_name
from tests.iperfpy.support import serving

pytestmark = pytest.mark.live

NAMES = [name for name, one in transports().items() if one.both_ways]


@pytest.mark.parametrize("name", NAMES)
async def test_every_message_is_echoed(name: str) -> None:
    async with serving() as server:
        options = ClientOptions("127.0.0.1", port=server.port)
        result = await measure_messages(options, MessageTest(name, per_s=200, seconds=0.5))
        await server.settled()
        there = server.tests[0].end_rows[0].local
    times, found = result.times, result.figures()
    assert times is not None
    assert found is not None
    assert times.sent == 100
    assert (times.round_trip_us != UNANSWERED).all()
    assert found.wire_ratio is None or found.wire_ratio > 1.0
    assert there.bytes == 100 * 100
    # Both ends run on one machine, and may know it.
    assert times.clocks is not None
    clock = told(times)
    assert clock is not None
    assert fault([times], [clock]) == ""
    assert clock.basis is (Basis.SAME_HOST if times.clocks[0].host else Basis.SYNCHRONISED)
    assert found.there_p50_us is not None
    assert found.back_p50_us is not None
    assert found.there_p50_us + found.back_p50_us < 1e6


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("kcp", {"fec": "4:2", "crypt": "aes"}),
        ("kcp-bbr", {"fec": "auto", "crypt": "aes-128-gcm"}),
    ],
)
async def test_messages_travel_in_an_envelope(name: str, settings: dict[str, str]) -> None:
    secrets = {"kcp": b"a secret of this test"}
    async with serving(secrets=secrets) as server:
        options = ClientOptions("127.0.0.1", port=server.port, secrets=secrets)
        result = await measure_messages(options, MessageTest(name, settings, per_s=200, seconds=0.5))
        await server.settled()
        there = server.tests[0].end_rows[0].local.values
    assert result.times is not None
    assert (result.times.round_trip_us != UNANSWERED).any()
    assert there["crypt_rejected"] == there["fec_unusable"] == 0
    if settings["fec"] == "auto":
        assert any("--kcp-fec auto" in warning for warning in result.warnings)
    else:
        assert there["fec_parity_received"]


async def test_a_server_that_does_not_tell_its_clock_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iperfpy.control.results.encode_clock", lambda clock: {})
    async with serving() as server:
        steps = steps_of(messengers("udp"), sizes=[100], rates=[100], loads=["none"], directions=["up"])
        run = LatencyRun(ClientOptions("127.0.0.1", port=server.port), steps, seconds=0.1, owd=True)
        await run.run()
    report = run.report()
    assert report.ways.fault == "the server does not tell its clock: update its iperfpy"
    text = "\n".join("".join(piece for piece, _ in line) for line in lines(report))
    assert f"up and down: empty, because {report.ways.fault}; without --owd" in text
    assert report.rows[0].figures.answered
    assert report.rows[0].figures.there_p50_us is None


async def test_the_result_has_the_facts_of_the_server() -> None:
    async with serving() as server:
        steps = steps_of(messengers("udp"), sizes=[100], rates=[100], loads=["none"], directions=["up"])
        run = LatencyRun(ClientOptions("127.0.0.1", port=server.port), steps, seconds=0.1)
        await run.run()
    report = run.report()
    assert (report.server_version, report.server_system_info) == (f"iperfpy {__version__}", system_name())


async def test_a_load_runs_beside_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iperfpy.experiments.message_probe.RAMP_S", 0.3)
    async with serving() as server:
        options = ClientOptions("127.0.0.1", port=server.port)
        load = BulkLoad("tcp", reverse=True, rate=20e6)
        result = await measure_messages(options, MessageTest("udp", per_s=100, seconds=1.2, load=load))
    assert result.times is not None
    assert set(result.load_bits_per_second) == {"down"}
    assert result.load_bits_per_second["down"] > 0


async def test_a_server_that_does_not_know_messages_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    others = tuple(name for name in parameters.FEATURES if name != parameters.MESSAGES)
    monkeypatch.setattr(parameters, "FEATURES", others)
    async with serving() as server:
        with pytest.raises(PlanError, match=r"runs an iperfpy that does not echo messages: update it"):
            await measure_messages(ClientOptions("127.0.0.1", port=server.port), MessageTest("tcp"))
