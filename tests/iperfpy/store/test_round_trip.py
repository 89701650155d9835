"""Run -> document -> Run: records and document stay equal, for every kind of test."""

from __future__ import annotations

import asyncio
import io
import json
import math
import pickle
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import iperfpy
from iperfpy.records import Row, Sample, Sink
from iperfpy.report.json_report import JsonSink
from iperfpy.store.direction_figures import started_at
from iperfpy.store.run_recorder import RunRecorder
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.scenes import SCENES, Scene, SceneTransport, forward
from tests.iperfpy.support import serving, until

HOST = "127.0.0.1"
BARE: dict[str, Any] = {"version": "iperfpy 9", "test_start": {}, "settings": {}}


def run_of(scene: Scene) -> Run:
    recorder = RunRecorder()
    scene.play(recorder)
    return recorder.run()


def through_json(run: Run, **arguments: Any) -> Run:
    return Run.from_document(json.loads(json.dumps(run.document(), allow_nan=False)), **arguments)


def available(sample: Sample | None) -> Sample | None:
    """Return the sample without figures that are None: an absent figure and None are equivalent."""
    if sample is None:
        return None
    return replace(sample, values={key: one for key, one in sample.values.items() if one is not None})


def available_rows(rows: tuple[Row, ...]) -> list[Row]:
    return [replace(row, local=available(row.local) or row.local, peer=available(row.peer)) for row in rows]


def assert_round_trip(run: Run, **arguments: Any) -> Run:
    """Read the run back from its document, compare records and document, and return it."""
    again = through_json(run, **arguments)
    assert again.document() == run.document()
    assert (again.error, again.failed, again.complete) == (run.error, run.failed, run.complete)
    assert [available_rows(one.rows) for one in again.intervals] == [
        available_rows(one.rows) for one in run.intervals
    ]
    assert available_rows(again.rows) == available_rows(run.rows)
    if run.started is None or again.started is None:
        assert run.started is again.started
        return again
    # Not `started == started`: the document has no conversation numbers, and buffers of one stream only.
    assert again.plan == run.plan
    assert again.settings == run.settings
    assert (again.client, again.server) == (run.client, run.server)
    assert (again.warnings, again.latency) == (run.warnings, run.latency)
    if run.ended is not None and again.ended is not None:
        changed = replace(again.ended, rows=run.ended.rows, cpu_percent=run.ended.cpu_percent)
        assert changed == run.ended
    return again


@pytest.mark.parametrize("name", SCENES)
def test_records_of_a_scene_round_trip(name: str) -> None:
    assert_round_trip(run_of(SCENES[name]()), transport=SceneTransport())


def test_notices_stay_with_their_interval() -> None:
    scene = forward()
    first, *others = scene.intervals
    named = replace(first[0], notices=("the path shrank",))
    again = assert_round_trip(
        run_of(replace(scene, intervals=((named,), *others))), transport=SceneTransport()
    )
    assert [row.notices for one in again.intervals for row in one.rows][:2] == [("the path shrank",), ()]


@pytest.mark.parametrize("name", SCENES)
def test_a_run_can_be_sent_to_another_process(name: str) -> None:
    run = run_of(SCENES[name]())
    again = pickle.loads(pickle.dumps(run))
    assert again.document() == run.document()
    assert again.intervals == run.intervals


@pytest.mark.parametrize("name", SCENES)
def test_the_document_of_a_run_is_the_one_that_is_printed(name: str) -> None:
    out = io.StringIO()
    SCENES[name]().play(JsonSink(out))
    assert run_of(SCENES[name]()).document() == json.loads(out.getvalue())


def test_every_parameter_of_a_plan_round_trips() -> None:
    # Values differ from their defaults, so that a key that is lost is noticed.
    scene = forward()
    plan = replace(
        scene.start.plan,
        duration_us=0,
        total_bytes=12345,
        omit_us=1_500_000,
        parallel=1,
        block_bytes=999,
        rate_bps=10_000_000,
        burst_blocks=7,
        interval_us=250_000,
        title="a",
        tos=8,
        extra_data="b",
        fq_rate_bps=5,
        pacing_timer_us=20,
        server_cpu=0,
    )
    run = run_of(replace(scene, start=replace(scene.start, plan=plan)))
    assert assert_round_trip(run, transport=SceneTransport()).plan == plan


@pytest.mark.parametrize("output", ["the server's table", {"start": {}, "end": {}}])
def test_the_server_report_round_trips(output: Any) -> None:
    scene = forward()
    plan = replace(scene.start.plan, get_server_output=True)
    start, end = replace(scene.start, plan=plan), replace(scene.end, server_output=output)
    assert_round_trip(run_of(replace(scene, start=start, end=end)), transport=SceneTransport())


def test_the_time_of_a_run_round_trips_to_the_millisecond() -> None:
    scene = forward()
    for milliseconds in range(0, 1000, 7):
        start = replace(scene.start, unix_time=1_795_367_700 + milliseconds / 1000)
        assert_round_trip(run_of(replace(scene, start=start)), transport=SceneTransport())


def test_a_figure_that_is_nan_becomes_unavailable() -> None:
    scene = forward()
    row = scene.end.rows[0]
    odd = replace(row, local=replace(row.local, values={**row.local.values, "rtt_us": float("nan")}))
    run = run_of(replace(scene, end=replace(scene.end, rows=(odd,))))
    again = through_json(run, transport=SceneTransport())
    assert math.isnan(again.total("rtt_us"))
    assert again.document() == run.document()


def test_replaying_a_run_gives_a_report_every_record() -> None:
    scene = forward()
    recorder = RunRecorder()
    sink: Sink = recorder
    run_of(scene).replay(sink)
    assert recorder.run() == run_of(scene)


@pytest.mark.live
@pytest.mark.parametrize("transport", list(iperfpy.transports()))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reverse": True},
        {"parallel": 2},
        {"bidirectional": True},
        {"omit": 0.2, "reverse": True},
        {"interval": 0},
    ],
    ids=str,
)
async def test_a_measured_run_round_trips(transport: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """The runs of both ends are saved to a file and read back."""
    served: list[Run] = []
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        iperfpy.serve_async(
            port=0, bind=HOST, one_off=True, on_listening=port.set_result, on_run=served.append
        )
    )
    keywords: dict[str, Any] = {
        "seconds": 0.3,
        "interval": 0.1,
        "rate": 20_000_000,
        "transport": transport,
        **changes,
    }
    run = await iperfpy.measure_async(HOST, port=await port, title="through a file", **keywords)
    await server
    assert run.complete
    # Each end has figures that the other one lacks: both documents are read.
    for one in (run, *served):
        assert_round_trip(one)
        one.save(tmp_path / "run.json")
        assert Run.load(tmp_path / "run.json").document() == one.document()
    (at_server,) = served
    assert at_server.plan.settings == run.plan.settings
    assert at_server.server.system_info
    assert not at_server.client.system_info
    # The client knows the server's facts as well as its own, but for the name of the machine.
    assert run.server.version == run.client.version
    assert run.server.system_info
    assert platform.node() not in run.server.system_info.split()
    assert run.server.send_buffer_bytes == at_server.server.send_buffer_bytes
    assert run.server.receive_buffer_bytes
    assert (run.server.mss_bytes is None) == (run.client.mss_bytes is None)


@pytest.mark.live
@pytest.mark.parametrize("transport", list(iperfpy.transports()))
async def test_an_interrupted_run_round_trips(transport: str) -> None:
    async with (
        serving() as server,
        iperfpy.watch(
            HOST, port=server.port, transport=transport, seconds=60, interval=0.1, rate=20_000_000
        ) as test,
    ):
        await until(lambda: len(test.run.intervals) > 1)
        test.stop("the user has seen enough")
        run = await test.finished()
    again = assert_round_trip(run)
    assert (again.error, again.failed) == ("the user has seen enough", False)


@pytest.mark.live
async def test_a_failed_run_round_trips() -> None:
    """The server stops in the middle of the test."""
    async with (
        serving() as server,
        iperfpy.watch(HOST, port=server.port, seconds=60, interval=0.1, rate=20_000_000) as test,
    ):
        await until(lambda: len(test.run.intervals) > 1)
        assert server.task is not None
        server.task.cancel()
        with pytest.raises(iperfpy.PeerTerminatedError) as caught:
            await test.finished()
    run = caught.value.run
    assert isinstance(run, Run)
    assert run.intervals
    again = assert_round_trip(run)
    assert (again.failed, again.error) == (True, str(caught.value))


async def test_a_run_that_never_started_round_trips() -> None:
    with pytest.raises(iperfpy.ConnectError) as caught:
        await iperfpy.measure_async(HOST, port=1)
    again = assert_round_trip(caught.value.run)
    assert again.failed
    with pytest.raises(iperfpy.DocumentError, match="before it started: cannot connect"):
        _ = again.plan


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "no start"),
        ([], "must be a JSON object"),
        ({"start": {"version": "iperf 3.16", "test_start": {}}}, "document of iperf3 cannot be read"),
        ({"start": {"version": "x", "test_start": {}, "settings": {}, "transport": "carrier"}}, "carrier"),
        (
            {"start": {"version": "x", "test_start": {}, "settings": {}, "transport": "tcp"}},
            "start of the run",
        ),
    ],
)
def test_an_unreadable_document_is_refused_with_its_reason(document: Any, sentence: str) -> None:
    with pytest.raises(iperfpy.DocumentError, match=sentence):
        Run.from_document(document)


@pytest.mark.parametrize("part", ["intervals", "end"])
def test_a_damaged_document_is_refused_with_its_part(part: str) -> None:
    document = run_of(forward()).document()
    entry = document["end"] if part == "end" else document["intervals"][0]
    del entry["streams"]
    with pytest.raises(iperfpy.DocumentError, match=f"the {part} of the run cannot be read"):
        Run.from_document(document, SceneTransport())


@pytest.mark.parametrize("milliseconds", [-1, 10**15, 10**30])
def test_a_time_outside_the_calendar_is_refused(milliseconds: int) -> None:
    """A row of the CSV has the date of each interval."""
    document = run_of(forward()).document()
    document["start"]["timestamp"]["timemillisecs"] = milliseconds
    with pytest.raises(iperfpy.DocumentError, match="timemillisecs is"):
        Run.from_document(document, SceneTransport())
    assert started_at(document) == 0


def test_a_file_without_a_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[ ID] Interval")
    with pytest.raises(iperfpy.DocumentError, match=r"x\.json is not JSON"):
        Run.load(tmp_path / "x.json")
    (tmp_path / "nested.json").write_text("[" * 100_000)
    with pytest.raises(iperfpy.DocumentError, match=r"nested\.json is not JSON"):
        Run.load(tmp_path / "nested.json")
    with pytest.raises(FileNotFoundError):
        Run.load(tmp_path / "y.json")


def test_a_device_is_no_stored_run() -> None:
    """It may have no end."""
    with pytest.raises(OSError, match="not a regular file"):
        Run.load("/dev/zero")


def test_unknown_settings_of_another_version_are_ignored() -> None:
    run = run_of(forward())
    document = run.document()
    document["start"]["settings"]["from_the_future"] = 1
    again = Run.from_document(document, SceneTransport())
    assert again.settings == run.settings
