"""Files (-F): the content read by the sender is the content written by the receiver."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.errors import PathError, PeerError, PlanError
from iperfpy.plan import Direction
from iperfpy.protocols.registry import transport
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


async def test_a_server_sends_a_file_and_then_nothing(sent: Path, tmp_path: Path) -> None:
    filled = tmp_path / "filled"
    async with serving(file=str(sent)) as server:
        plan = plan_for(direction=Direction.REVERSE, duration_us=1_000_000)
        report = await measure(server.port, plan, file=str(filled))
    assert content_of(filled) == CONTENT
    assert report.end_rows[0].local.bytes == len(CONTENT)


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
        with pytest.raises(PlanError, match="cannot write received data to a file"):
            await measure(
                server.port, replace(plan, direction=Direction.REVERSE), file=str(tmp_path / "filled")
            )


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
