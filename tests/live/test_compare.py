"""A comparison over loopback, with short tests: to its end, and with servers that are dead, busy or leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import iperfpy
from iperfpy.comparison.comparison_report import ComparisonReport
from iperfpy.errors import ConnectError, LateError, PathError, PeerError, PlanError
from iperfpy.experiments import bulk_figures, compare_schedule, comparison_run, serial_tests
from iperfpy.experiments.check_schedule import DIRECTIONS
from iperfpy.experiments.comparison_run import Compare, Progress
from iperfpy.experiments.contender import contenders_of
from iperfpy.experiments.serial_tests import BusyRetry
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.sampling.host import system_name
from tests.iperfpy.support import Server, serving
from tests.live.failing_tests import failing
from tests.live.limited_rate import watch_limited

pytestmark = [pytest.mark.live, pytest.mark.long]

UP = Direction.FORWARD
HURRIED = BusyRetry(0.02, 0.4)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of 0.3 s with little rest, at a low rate: what is tested are the steps, and not the figures."""
    monkeypatch.setattr(serial_tests, "watch", watch_limited)
    monkeypatch.setattr(compare_schedule, "STARTUP_S", 0.1)
    monkeypatch.setattr(compare_schedule, "STEADY_S", 0.2)
    monkeypatch.setattr(compare_schedule, "SHORTEST_TEST_S", 0.3)
    monkeypatch.setattr(bulk_figures, "FEWEST_POINTS", 2)
    monkeypatch.setattr(compare_schedule, "MESSAGE_S", 0.2)
    monkeypatch.setattr(compare_schedule, "LEAST_REST_S", 0.0)
    monkeypatch.setattr(comparison_run, "HELLO_S", 0.1)
    monkeypatch.setattr(comparison_run, "PROBE_S", 0.1)


def comparison(server: Server, words: str = "tcp,kcp", **more: Any) -> Compare:
    # So much time that no round is left out for its sake on a busy machine.
    more = {"limit_s": 600.0, "seed": 3, "patience": HURRIED, **more}
    return Compare(ClientOptions("127.0.0.1", server.port), contenders_of(words), **more)


def until_round(number: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Act when a round begins."""
    done: list[int] = []

    def tell(event: Progress) -> None:
        if event.step is not None and event.step.round == number and not done:
            done.append(number)
            act()

    return tell


def parts_of(report: ComparisonReport) -> set[tuple[str, Direction | None]]:
    """The parts of contenders with figures."""
    bulk: set[tuple[str, Direction | None]] = {
        (one.contender, one.direction) for one in report.tests if not one.failed
    }
    return bulk | {(one.contender, None) for one in report.messages if not one.failed}


async def test_every_contender_is_measured_in_each_round() -> None:
    events: list[Progress] = []
    async with serving() as server:
        run = comparison(server, "tcp:cubic,kcp,kcp-bbr,udp")

        def tell(event: Progress) -> None:
            events.append(event)
            if event.step is not None and event.step.round == 2:
                run.stop("two rounds are enough")

        await run.run(tell)
    report = run.report()
    assert (report.error, report.stopped, report.rounds) == ("two rounds are enough", True, 1)
    assert report.server_version == f"iperfpy {iperfpy.__version__}"
    assert report.server_system_info == system_name()
    names = {one.name for one in report.contenders}
    assert parts_of(report) == {(name, part) for name in names for part in (*DIRECTIONS, None)}
    for one in report.tests:
        assert one.error == ""
        assert one.steady_bits_per_second
        assert one.idle_rtt_us
        assert one.seconds <= 2 * report.test_s
        assert len(one.series["end_s"]) == len(one.series["bits_per_second"]) > 1
    udp = next(one for one in report.tests if one.contender == "udp")
    others = [one for one in report.tests if one.direction is udp.direction and one.contender != "udp"]
    assert udp.target_bits_per_second == pytest.approx(
        0.9 * max(one.steady_bits_per_second or 0 for one in others), rel=1e-6
    )
    assert [one.rate_bps for one in report.contenders] == [0, 0, 0, 0]
    assert any("by a probe of TCP, at least about" in event.text for event in events)


async def test_rounds_end_when_the_medians_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_schedule, "NARROW", 1e6)
    async with serving() as server:
        report = await iperfpy.compare_async(
            "127.0.0.1", "tcp", port=server.port, directions=[UP], seconds=600, seed=1
        )
    assert isinstance(report, ComparisonReport)
    assert (report.converged, report.rounds, report.error) == (True, 6, "")
    assert "only tcp was measured" in iperfpy.bulk_choice(report).sentence


async def test_a_budget_is_kept() -> None:
    async with serving() as server:
        run = comparison(server, "tcp:rate=8M,kcp:rate=8M", budget_bytes=3_000_000)
        await run.run()
    report = run.report()
    assert run.error is None
    assert 1 <= report.rounds < 6
    assert report.sent_bytes <= 3_000_000
    assert parts_of(report) >= {("tcp rate=8M", UP), ("kcp rate=8M", UP)}


async def test_a_budget_that_is_sent_at_once_gives_no_rate() -> None:
    """On loopback such an amount takes a millisecond."""
    async with serving() as server:
        run = comparison(server, "tcp", budget_bytes=5_000_000, directions=[UP])
        await run.run(until_round(2, lambda: run.stop("enough")))
    (test,) = run.report().tests
    assert (test.failed, test.error) == (True, "")


async def test_nothing_at_the_port_is_an_error_and_no_test() -> None:
    async with serving() as server:
        port = server.port
    with pytest.raises(ConnectError) as failure:
        await iperfpy.compare_async("127.0.0.1", port=port)
    assert failure.value.comparison.tests == ()
    assert failure.value.comparison.error == str(failure.value)


async def test_a_server_that_leaves_after_two_rounds_leaves_what_was_measured() -> None:
    async with serving() as server:
        assert server.task is not None
        run = comparison(server)
        await run.run(until_round(3, lambda: server.task and server.task.cancel()))
    report = run.report()
    assert isinstance(run.error, ConnectError)
    assert report.error == str(run.error)
    assert report.rounds == 2
    assert parts_of(report) == {(name, part) for name in ("tcp", "kcp") for part in (*DIRECTIONS, None)}
    rounds = [one.round for one in report.tests if one.failed]
    assert [*rounds, *(one.round for one in report.messages if one.failed)] == [3]


async def test_a_server_that_comes_back_goes_on_with_the_rounds() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving())
        run = comparison(server, patience=BusyRetry(0.05, 60.0))

        async def restart() -> None:
            assert server.task is not None
            server.task.cancel()
            await asyncio.wait([server.task])
            await stack.enter_async_context(serving(port=server.port))

        tasks: list[asyncio.Task[None]] = []
        leave = until_round(2, lambda: tasks.append(asyncio.create_task(restart())))
        end = until_round(3, lambda: run.stop("enough"))

        def tell(event: Progress) -> None:
            leave(event)
            end(event)

        await run.run(tell)
        await asyncio.gather(*tasks)
    report = run.report()
    assert run.error is None
    assert report.rounds == 2
    # The test that the server left was repeated.
    assert {(one.contender, one.direction) for one in report.tests if one.round == 2 and not one.failed} == {
        (name, way) for name in ("tcp", "kcp") for way in DIRECTIONS
    }


# -- failures of single tests


async def measured(server: Server, words: str, rounds: int = 1, **more: Any) -> Compare:
    """Run some rounds."""
    run = comparison(server, words, **more)
    await run.run(until_round(rounds + 1, lambda: run.stop("enough")))
    return run


async def test_a_server_that_stays_busy_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: list[bool] = []
    failing(monkeypatch, lambda plan: PeerError("the server is busy") if busy else None)
    async with serving() as server:
        run = comparison(server)
        await run.run(until_round(3, lambda: busy.append(True)))
    assert str(run.error) == "the server is busy"
    assert run.report().rounds == 2
    assert len(parts_of(run.report())) == 6


async def test_a_server_that_is_busy_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [PeerError("the server is busy") for _ in range(3)]
    failing(monkeypatch, lambda plan: refusals.pop() if plan.transport == "kcp" and refusals else None)
    async with serving() as server:
        run = await measured(server, "tcp,kcp")
    assert run.error is None
    assert len(parts_of(run.report())) == 6
    assert not [one for one in run.report().tests if one.failed]


async def test_a_contender_that_cannot_be_measured_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateError("the server did not answer on stream 1")
    plans = failing(monkeypatch, lambda plan: late if plan.transport != "tcp" else None)
    async with serving() as server:
        run = await measured(server, "tcp,kcp,kcp-bbr,udp", rounds=2)
    report = run.report()
    assert run.error is None
    assert {one.contender: (one.direction, one.reason) for one in report.left_out} == dict.fromkeys(
        ("kcp", "kcp-bbr", "udp"), (None, str(late))
    )
    assert parts_of(report) == {("tcp", part) for part in (*DIRECTIONS, None)}
    # A stream that cannot be opened tells of both directions, and of messages.
    assert len([plan for plan in plans if plan.transport == "kcp"]) <= 2


async def test_a_contender_in_an_envelope_is_measured() -> None:
    contenders = contenders_of("kcp-bbr", ["kcp-bbr:fec=4:2", "kcp-bbr:crypt=aes-128-gcm"])
    secrets = {"kcp": b"a secret of this test"}
    async with serving(secrets=secrets) as server:
        options = ClientOptions("127.0.0.1", server.port, secrets=secrets)
        run = Compare(options, contenders, limit_s=600.0, seed=3, patience=HURRIED)
        await run.run(until_round(2, lambda: run.stop("one round is enough")))
    report = run.report()
    assert parts_of(report) == {("kcp-bbr", part) for part in (*DIRECTIONS, None)}
    plans = [test.started.plan for test in server.tests if test.started is not None]
    measured_in = {
        (plan.settings.to_wire().get("fec"), plan.settings.to_wire().get("crypt")) for plan in plans
    }
    assert ("4:2", "aes-128-gcm") in measured_in


async def test_a_congestion_control_that_this_kernel_lacks_is_left_out() -> None:
    async with serving() as server:
        run = await measured(server, "tcp,tcp:nosuch", directions=[UP])
    (gone,) = run.report().left_out
    assert (gone.contender, gone.direction) == ("tcp nosuch", None)
    assert "nosuch" in gone.reason
    assert run.error is None


async def test_a_congestion_control_that_the_server_lacks_is_no_result() -> None:
    """A server keeps its own one, with a warning only."""
    async with serving() as server:
        run = await measured(server, "tcp,tcp:nosuch", directions=[Direction.REVERSE])
    reasons = [one.reason for one in run.report().left_out if not one.messages]
    assert len(reasons) == 1
    assert reasons[0].startswith("the sender's system has no nosuch: it used ")
    assert not run.report().of("tcp nosuch", Direction.REVERSE)


async def test_a_failed_test_is_counted_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Plan] = []

    def fails(plan: Plan) -> BaseException | None:
        if plan.transport == "kcp" and plan.direction is UP and not plan.messages_per_s:
            begun.append(plan)
        return PathError("the path died") if begun and begun[-1] is plan and len(begun) == 2 else None

    failing(monkeypatch, fails)
    async with serving() as server:
        run = await measured(server, "tcp,kcp", rounds=3)
    report = run.report()
    assert run.error is None
    assert [one.error for one in report.failures("kcp", UP)] == ["the path died"]
    assert len(report.of("kcp", UP)) == 2
    assert len(report.of("tcp", UP)) == 3
    assert report.left_out == ()


async def test_a_path_that_is_gone_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[bool] = []
    failing(monkeypatch, lambda plan: LateError("no answer") if gone else None)
    async with serving() as server:
        run = comparison(server)
        await run.run(until_round(2, lambda: gone.append(True)))
    assert str(run.error) == "no answer"
    report = run.report()
    assert report.left_out == ()
    assert len(parts_of(report)) == 6


async def test_a_plan_that_no_test_can_run_is_an_error() -> None:
    async with serving() as server:
        run = Compare(
            replace(ClientOptions("127.0.0.1", server.port), flow_label=5),
            contenders_of("tcp,kcp"),
            patience=HURRIED,
        )
        await run.run()
    assert isinstance(run.error, PlanError)
    assert "-L labels flows of IPv6" in str(run.error)


async def test_cancelling_it_ends_the_test_at_the_server() -> None:
    begun = asyncio.Event()
    async with serving(max_tests=1) as server:
        task = asyncio.create_task(comparison(server).run(lambda event: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        run = await iperfpy.measure_async("127.0.0.1", port=server.port, total_bytes=1000)
        assert run.complete


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"seconds": 0}, "the time of the comparison must be between 5 and 86400 seconds, not 0"),
        ({"seconds": "soon"}, "seconds must be a number"),
        ({"directions": [Direction.BIDIRECTIONAL]}, "directions must be FORWARD, REVERSE, or both"),
        ({"directions": []}, "directions must be FORWARD, REVERSE, or both"),
        ({"settings": ["kcp:kcp-mod=fast"]}, "kcp has no setting 'kcp-mod'"),
        ({"budget_bytes": "1M"}, "budget_bytes must be a whole number"),
    ],
)
def test_keywords_are_checked(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        iperfpy.compare("127.0.0.1", **keywords)
    with pytest.raises(TypeError, match="unexpected keyword argument 'quick'"):
        iperfpy.compare("127.0.0.1", quick=True)  # type: ignore[call-arg]
