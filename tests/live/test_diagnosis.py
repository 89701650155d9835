"""A diagnosis over loopback, with tiny tests: to its end, with a server that leaves, with a Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from subprocess import PIPE
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import iperfpy
from iperfpy.diagnosis.path_report import PathReport
from iperfpy.errors import ConnectError, LateError, PathError, PeerError
from iperfpy.experiments import check_schedule, path_check, serial_tests
from iperfpy.experiments.check_schedule import KCP, TCP, UDP
from iperfpy.experiments.path_check import PathCheck, Progress
from iperfpy.experiments.serial_tests import BusyRetry, TrafficBudget
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.report.diagnosis_document import document
from iperfpy.sampling.host import system_name
from tests.live.failing_tests import failing
from tests.live.limited_rate import watch_limited
from tests.live.tiny_diagnosis import TINY
from tests.warm_program import WarmLocalServer, WarmProgram, local_server

pytestmark = pytest.mark.live

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "diagnosis_schema.json").read_text())
TOLD = Callable[[Progress], None]


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests at a low rate: what is tested are the steps, and not the figures."""
    monkeypatch.setattr(serial_tests, "watch", watch_limited)


def check_of(server: WarmLocalServer, **more: Any) -> PathCheck:
    return PathCheck(ClientOptions(server.host, server.port), TINY, **more)


def validated(report: PathReport) -> dict[str, Any]:
    made = document(report)
    Draft202012Validator(SCHEMA).validate(made)
    json.dumps(made, allow_nan=False)
    return made


async def test_a_whole_diagnosis_has_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_schedule, "QUICK", TINY)
    events: list[Progress] = []
    with local_server() as server:
        report = await iperfpy.diagnose_async(
            server.host, port=server.port, quick=True, on_progress=events.append
        )
    assert isinstance(report, iperfpy.PathReport)
    assert report.error == ""
    validated(report)
    assert [one.direction for one in report.directions] == [Direction.FORWARD, Direction.REVERSE]
    for one in report.directions:
        assert len(one.evidence.rungs) == 5
        assert [run.transport for run in one.evidence.rounds[0]] == [TCP, KCP, UDP]
        assert all(rung.rtt_us and rung.arrived for rung in one.evidence.rungs)
        assert one.diagnosis.findings
    assert report.idle.echoes
    assert report.server_version == f"iperfpy {iperfpy.__version__}"
    assert report.server_system_info == system_name()
    assert report.sent_bytes > 0
    begun = [event for event in events if event.begins and event.step is not None]
    assert len(begun) == 1 + 2 * (3 + 5)
    assert [event.elapsed_s for event in begun] == sorted(event.elapsed_s for event in begun)
    assert any("both directions take 60 s" in event.text for event in events)


async def test_a_budget_is_kept() -> None:
    with local_server() as server:
        check = check_of(server, budget_bytes=5_000_000)
        await check.run()
    report = check.report()
    assert check.error is None
    # On loopback a round trip carries next to nothing: what passes the budget is the last interval's surplus.
    assert report.sent_bytes < 5_300_000
    assert any("budget" in phrase for phrase in report.not_checked)
    validated(report)


async def test_nothing_at_the_port_is_an_error_and_no_direction() -> None:
    with local_server() as server:
        port = server.port
    check = PathCheck(ClientOptions("127.0.0.1", port), TINY)
    await check.run()
    assert isinstance(check.error, ConnectError)
    assert check.report().directions == ()
    validated(check.report())


async def test_a_server_that_leaves_in_the_middle_leaves_what_was_measured() -> None:
    with local_server() as server:

        def leave(event: Progress) -> None:
            if event.step is not None and event.begins and event.step.direction is Direction.REVERSE:
                server.stop()

        check = check_of(server, patience=BusyRetry(0.02, 0.0))
        await check.run(leave)
    report = check.report()
    assert check.error is not None
    assert report.error == str(check.error)
    assert [one.direction for one in report.directions] == [Direction.FORWARD]
    assert validated(report)["error"] == report.error


async def test_stopping_it_keeps_what_was_measured() -> None:
    with local_server() as server:
        check = check_of(server)

        def stop(event: Progress) -> None:
            if event.step is not None and event.step.transport == KCP and not event.begins:
                check.stop("the user has seen enough")

        await check.run(stop)
    report = check.report()
    assert (check.error, report.error, report.stopped) == (None, "the user has seen enough", True)
    assert report.directions
    validated(report)


async def test_cancelling_it_ends_the_test_at_the_server() -> None:
    begun = asyncio.Event()
    with local_server(max_tests=1) as server:
        task = asyncio.create_task(check_of(server).run(lambda event: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        run = await iperfpy.measure_async(server.host, port=server.port, total_bytes=1000)
        assert run.complete


# -- failures of single tests


async def test_a_server_that_is_busy_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [PeerError("the server is busy") for _ in range(3)]
    failing(monkeypatch, lambda plan: refusals.pop() if plan.transport == KCP and refusals else None)
    told: list[str] = []

    def tell(event: Progress) -> None:
        told.append(event.text)
        if event.step is not None and event.step.direction is Direction.REVERSE:
            check.stop("this is enough")

    with local_server() as server:
        check = check_of(server, patience=BusyRetry(0.02))
        await check.run(tell)
    assert check.error is None
    (forward,) = check.report().directions
    assert [run.transport for run in forward.evidence.rounds[0]] == [TCP, KCP, UDP]
    assert told.count("the server is busy: trying again for up to 4 s") == 1


async def test_a_server_that_stays_busy_ends_the_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = failing(
        monkeypatch, lambda plan: PeerError("the server is busy") if plan.transport == KCP else None
    )
    with local_server() as server:
        check = check_of(server, patience=BusyRetry(0.02, 0.1))
        await check.run()
    assert str(check.error) == "the server is busy"
    assert len([plan for plan in plans if plan.transport == KCP]) >= 2
    assert [one.direction for one in check.report().directions] == [Direction.FORWARD]


async def test_datagrams_that_do_not_get_through_are_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateError("the server did not answer on stream 1")
    plans = failing(monkeypatch, lambda plan: late if plan.transport != TCP else None)
    with local_server() as server:
        check = check_of(server)
        await check.run()
    report = check.report()
    assert check.error is None
    assert f"{UDP} (the server did not answer on stream 1)" in report.not_checked
    assert [plan.transport for plan in plans] == [UDP, TCP, TCP, TCP]  # idle, idle again, one each way
    for one in report.directions:
        assert {run.transport: run.bits_per_second > 0 for run in one.evidence.rounds[0]} == {
            TCP: True,
            UDP: False,
        }
    validated(report)


@pytest.mark.parametrize("transports", [{UDP, TCP}, {TCP, KCP}], ids=["udp-tcp", "tcp-kcp"])
async def test_a_diagnosis_without_a_figure_is_an_error(
    monkeypatch: pytest.MonkeyPatch, transports: set[str]
) -> None:
    late = LateError("no answer within 5 s")
    plans = failing(monkeypatch, lambda plan: late if plan.transport in transports else None)
    with local_server() as server:
        check = check_of(server)
        await check.run()
    assert len(plans) <= path_check.MOST_SILENT
    assert check.error is late
    report = check.report()
    assert (report.error, report.directions) == ("no answer within 5 s", ())
    # The server was gone: that is no difference between the transports.
    assert not any("no answer" in phrase for phrase in report.not_checked)
    assert validated(report)["error"] == report.error


async def test_a_path_that_is_gone_ends_the_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Plan] = []

    def fails(plan: Plan) -> BaseException | None:
        begun.append(plan)
        return PathError("nothing arrived") if len(begun) > 3 else None

    failing(monkeypatch, fails)
    with local_server() as server:
        check = check_of(server)
        await check.run()
    assert str(check.error) == "nothing arrived"
    assert len(begun) == 3 + path_check.MOST_SILENT
    report = check.report()
    assert [one.direction for one in report.directions] == [Direction.FORWARD]
    # The path was gone: that is no difference between the transports.
    assert [run.transport for run in report.directions[0].evidence.rounds[0]] == [TCP, KCP]
    assert not any("nothing arrived" in phrase for phrase in report.not_checked)


# -- the Python interface and the command


def test_an_error_has_the_report_so_far() -> None:
    with local_server() as server:
        port = server.port
    with pytest.raises(ConnectError) as failure:
        iperfpy.diagnose("127.0.0.1", port=port)
    assert failure.value.diagnosis.directions == ()
    with pytest.raises(TypeError, match="unexpected keyword argument 'seconds'"):
        iperfpy.diagnose("127.0.0.1", seconds=3)  # type: ignore[call-arg]


async def test_the_blocking_form_refuses_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match=r"await iperfpy\.diagnose_async"):
        iperfpy.diagnose("127.0.0.1")


def command(server: WarmLocalServer) -> WarmProgram:
    words = ["diagnose", "127.0.0.1", "--quick", "-p", str(server.port)]
    return WarmProgram(words, entry="tests.live.tiny_diagnosis:main", stdout=PIPE, stderr=PIPE)


def test_the_command_prints_both_directions() -> None:
    with local_server() as server:
        output, errors = (process := command(server)).communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.startswith("Path to 127.0.0.1, RTT ")
    for way in ("up  ", "down"):
        assert any(line.startswith(way) for line in output.splitlines())
    assert "not checked: " in output
    assert "both directions take 60 s" in errors


def test_ctrl_c_shows_what_is_known_so_far() -> None:
    with local_server() as server:
        process = command(server)
        assert process.stderr is not None
        for line in process.stderr:
            if "down: round 1" in line:
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert any(line.startswith("up") for line in output.splitlines())
    assert "iperfpy: interrupt - the client has terminated by signal Interrupt(2)" in errors


def test_a_budget_of_zero_is_none() -> None:
    budget = TrafficBudget(0)
    budget.spend(1 << 40)
    assert not budget.spent
    assert replace(TINY).total_for(1.0) == 60
