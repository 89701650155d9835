"""Files (-F): the content read by the sender is the content written by the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.errors import PathError, PeerError, PlanError
from iperfpy.plan import UNSIZED_BYTES, Direction
from iperfpy.protocols.registry import transport
from iperfpy.traffic.open_stream import becomes_true
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live

CONTENT = os.urandom(3_000_001)


def fill(path: Path) -> None:
    """Write more than the test sends, so that old content would be noticed."""
    path.write_bytes(b"what was there before" * 200_000)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    path = tmp_path / "sent"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("options", [{}, {"rate_bps": 100_000_000}, {"block_bytes": 1000}])
async def test_a_client_sends_a_file(sent: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    filled = tmp_path / "filled"
    fill(filled)
    async with serving(file=str(filled)) as server:
        report = await measure(server.port, plan_for(total_bytes=len(CONTENT), **options), file=str(sent))
        await server.settled()
    assert content_of(filled) == CONTENT
    assert report.end_rows[0].local.bytes == len(CONTENT)


@pytest.mark.parametrize("name", ["tcp", "kcp-bbr"])
@pytest.mark.parametrize(
    "end",
    [{"duration_us": 600_000_000}, {"duration_us": 0}, {"total_bytes": 2 * len(CONTENT)}],
    ids=["time", "no planned end", "amount"],
)
async def test_the_end_of_the_file_of_a_server_ends_the_test(
    name: str, end: dict[str, int], sent: Path, tmp_path: Path
) -> None:
    filled = str(tmp_path / "filled") if name == "tcp" else ""
    async with serving(file=str(sent)) as server:
        plan = plan_for(name, direction=Direction.REVERSE, rate_bps=100_000_000, **end)
        report = await measure(server.port, plan, file=filled)
        await server.settled()
    assert report.sentence == server.tests[0].sentence == ""
    assert report.end_rows[0].local.bytes == len(CONTENT)
    assert not filled or content_of(Path(filled)) == CONTENT


@pytest.mark.parametrize("name", ["tcp", "kcp-bbr"])
@pytest.mark.parametrize("limit_bytes", [UNSIZED_BYTES, 2_000_000])
async def test_a_named_pipe_is_read_until_its_end(name: str, limit_bytes: int, tmp_path: Path) -> None:
    pipe, filled = tmp_path / "pipe", tmp_path / "filled"
    os.mkfifo(pipe)
    tcp = name == "tcp"

    def write() -> None:
        # The test is under way before the pipe has a writer, and again before the second half comes.
        with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as file:
            file.write(CONTENT[:1_000_001])
            resume.wait(10)
            file.write(CONTENT[1_000_001:])

    resume, writer = threading.Event(), threading.Thread(target=write)
    async with serving(file=str(filled) if tcp else "") as server:
        measuring = asyncio.create_task(
            measure(server.port, plan_for(name, total_bytes=limit_bytes), file=str(pipe))
        )
        await asyncio.sleep(0.2)
        writer.start()
        await asyncio.sleep(0.2)
        resume.set()
        report = await measuring
        await server.settled()
    writer.join(10)
    assert not writer.is_alive()
    expected = CONTENT[:limit_bytes]
    assert report.end_rows[0].local.bytes == len(expected)
    assert not tcp or content_of(filled) == expected


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
@pytest.mark.parametrize("name", ["tcp", "kcp-bbr"])
async def test_a_device_is_read_until_the_time_is_over(name: str, device: str) -> None:
    plan = plan_for(name, total_bytes=UNSIZED_BYTES, rate_bps=50_000_000)
    async with serving() as server:
        report = await measure(server.port, plan, file=device, longest_us=200_000)
    assert report.sentence == ""
    assert report.end_rows[0].local.bytes > 0


async def test_two_tests_never_write_one_file_at_once(tmp_path: Path) -> None:
    filled, pipe, plan = tmp_path / "filled", tmp_path / "pipe", plan_for(total_bytes=len(CONTENT))
    os.mkfifo(pipe)
    busy = rf"the file {filled} is in use by another test: try again when that has ended"
    async with serving(file=str(filled)) as server, serving() as another:
        # The first test waits for its pipe.
        first = asyncio.create_task(measure(server.port, plan, file=str(pipe)))
        assert await becomes_true(filled.exists, 10_000_000)
        with pytest.raises(PeerError, match=busy):
            await measure(server.port, plan)
        # A client that would fill it meets the same lock.
        reverse = replace(plan, direction=Direction.REVERSE)
        with pytest.raises(PlanError, match=busy):
            await measure(another.port, reverse, file=str(filled))
        await asyncio.to_thread(pipe.write_bytes, CONTENT)
        await first
        await server.settled()
        assert content_of(filled) == CONTENT
        # The next test finds the file free, and replaces its content.
        await measure(server.port, replace(plan, total_bytes=1000))
        await server.settled()
    assert len(content_of(filled)) == 1000


async def test_a_device_takes_the_payload_of_several_tests() -> None:
    async with serving(file="/dev/null") as server:
        plan = plan_for(total_bytes=1_000_000, rate_bps=20_000_000)
        await asyncio.gather(measure(server.port, plan), measure(server.port, plan))


async def test_a_pipe_without_a_reader_is_refused_and_holds_up_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with serving(file=str(pipe)) as server:
        with pytest.raises(PeerError, match=r"cannot write the file .*: no program reads this pipe"):
            await measure(server.port, plan_for(total_bytes=1000))


async def test_a_short_file_ends_before_the_requested_bytes(sent: Path) -> None:
    async with serving() as server:
        report = await measure(server.port, plan_for(total_bytes=2 * len(CONTENT)), file=str(sent))
    assert report.end_rows[0].local.bytes == len(CONTENT)


async def test_a_long_file_ends_when_the_time_is_over(sent: Path) -> None:
    plan = plan_for(total_bytes=len(CONTENT), rate_bps=1_000_000)
    async with serving() as server:
        report = await measure(server.port, plan, file=str(sent), longest_us=300_000)
        await server.settled()
    assert report.sentence == ""
    for row in (report.end_rows[0], server.tests[0].end_rows[0]):
        assert 0 < row.local.bytes < len(CONTENT)


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
async def test_kcp_can_send_a_file_and_cannot_write_one(name: str, sent: Path, tmp_path: Path) -> None:
    plan = plan_for(name, total_bytes=len(CONTENT))
    async with serving() as server:
        report = await measure(server.port, plan, file=str(sent))
    assert report.end_rows[0].local.bytes == len(CONTENT)
    filled, sentence = tmp_path / "filled", f"^{name} cannot write received data to a file"
    filled.write_bytes(b"kept")
    # Nothing listens on this port: the client refuses before it connects.
    with pytest.raises(PlanError, match=sentence):
        await measure(1, replace(plan, direction=Direction.REVERSE), file=str(filled))
    async with serving(file=str(filled)) as server:
        with pytest.raises(PeerError, match=f"the server says: {sentence[1:]}"):
            await measure(server.port, plan)
    assert content_of(filled) == b"kept"


async def test_a_transport_without_keep_empties_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plug-in may have the default of `fills_files` although its channels have no `keep`."""
    monkeypatch.setattr(type(transport("kcp")), "fills_files", True)
    filled = tmp_path / "filled"
    filled.write_bytes(b"kept")
    async with serving(file=str(filled)) as server:
        with pytest.raises(PeerError, match="cannot write received data to a file"):
            await measure(server.port, plan_for("kcp", total_bytes=1000))
    assert content_of(filled) == b"kept"


async def test_a_test_without_payload_leaves_the_content_of_the_file(tmp_path: Path) -> None:
    filled, pipe = tmp_path / "filled", tmp_path / "pipe"
    filled.write_bytes(b"kept")
    os.mkfifo(pipe)
    async with serving(file=str(pipe)) as server:
        plan = plan_for(direction=Direction.REVERSE, duration_us=200_000)
        with pytest.raises(PathError, match="no payload arrived"):
            await measure(server.port, plan, file=str(filled))
    assert content_of(filled) == b"kept"


@pytest.mark.parametrize(
    ("name", "sentence"), [("empty", "the file {} is empty"), ("missing", "cannot read the file {}: No such")]
)
async def test_a_server_names_the_file_that_it_cannot_send(name: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    (tmp_path / "empty").touch()
    async with serving(file=str(path)) as server:
        plan = plan_for(direction=Direction.REVERSE, duration_us=200_000)
        with pytest.raises(PeerError, match=f"^the server says: {sentence.format(path)}"):
            await measure(server.port, plan)
        assert server.tests == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"transport": "udp", "settings": transport("udp").settings(), "block_bytes": 99},
            "udp may lose data, so it cannot carry a file",
        ),
        ({"parallel": 2}, "goes over one stream, in one direction"),
        ({"direction": Direction.BIDIRECTIONAL}, "goes over one stream, in one direction"),
        (
            {"settings": transport("tcp").settings.from_wire({"zerocopy": 1})},
            "-F and -Z exclude each other: -Z sends one block",
        ),
    ],
)
async def test_a_file_is_refused_with_options_that_exclude_it(
    changes: dict[str, Any], sentence: str, sent: Path
) -> None:
    plan = replace(plan_for(), **changes)
    async with serving(file=str(sent)) as server:
        with pytest.raises(PlanError, match=sentence):
            await measure(server.port, plan, file=str(sent))
        with pytest.raises(PeerError, match=sentence):
            await measure(server.port, plan)
    assert content_of(sent) == CONTENT


async def test_a_missing_file_or_folder_is_an_error(tmp_path: Path) -> None:
    async with serving() as server:
        with pytest.raises(PlanError, match=r"^cannot read the file \S+missing: No such file"):
            await measure(server.port, plan_for(), file=str(tmp_path / "missing"))
        plan = plan_for(direction=Direction.REVERSE)
        with pytest.raises(PlanError, match=r"^cannot write the file \S+folder: No such file"):
            await measure(server.port, plan, file=str(tmp_path / "no" / "folder"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_ends_the_test(sent: Path) -> None:
    plan = plan_for(direction=Direction.REVERSE, duration_us=5_000_000)
    async with serving(file=str(sent)) as server:
        with pytest.raises(PathError, match="cannot write the file /dev/full: No space left on device"):
            await measure(server.port, plan, file="/dev/full")
