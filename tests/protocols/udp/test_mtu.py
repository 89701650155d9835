"""Datagrams longer than the interface's MTU, in a network namespace with a small MTU of loopback."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from iperfpy.protocols.datagrams.path_mtu import IPV4_HEADERS, IPV6_HEADERS

SCRIPT = """
import select
import socket
import sys
import numpy as np
from iperfpy.protocols.errors import StreamPathError
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket

host = sys.argv[1]
local = (host, 0, 0, 0) if ":" in host else (host, 0)
receiver = DatagramSocket.bound(local)
sender = DatagramSocket.connected(receiver.local_address)
batch = DatagramBatch.of(np.random.default_rng(1).integers(0, 256, 8 * 1400 + 77, np.uint8), 1400)
short = DatagramBatch.of(batch.data[:5000], 1000)
for sent in (batch, short, batch):
    assert sender.send(sent) == sent.count
    got = []
    while len(got) < sent.count and select.select([receiver], [], [], 2.0)[0]:
        received = receiver.receive()
        got += [bytes(datagram) for datagram in received[0]] if received else []
    assert got == [bytes(datagram) for datagram in sent], len(got)
print("fragmented", sender.uses_gso)
if ":" not in host:
    probe = socket.socket(fileno=sender.fileno())
    probe.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER = IP_PMTUDISC_DO
    probe.detach()
    assert sender.send(short) == short.count
    try:
        sender.send(batch)
    except StreamPathError as error:
        print(error)
"""


def in_namespace(mtu: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'ip link set lo mtu {mtu} up && exec "$@"'
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", command, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.live
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_longer_than_the_mtu_are_fragmented_or_refused(host: str) -> None:
    """IP fragments the datagrams, as it does without offload; if it must not, the error names the MTU."""
    if not (shutil.which("unshare") and shutil.which("ip")) or in_namespace(1300, "true").returncode:
        pytest.skip("needs the right to make a network namespace, and `ip`")
    done = in_namespace(1300, sys.executable, "-c", SCRIPT, host)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fragmented")
    if ":" not in host:
        assert "a datagram of 1400 bytes does not fit the path: choose a smaller MTU" in done.stdout


STREAM = """
import asyncio
import sys
from dataclasses import replace
from iperfpy.errors import IperfpyError
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.udp import own
from tests.iperfpy.support import measure, plan_for, serving

async def main(rate_bps, forbidden, way):
    end = {"total_blocks": 20} if rate_bps else {"duration_us": 200_000}
    plan = plan_for("udp", rate_bps=rate_bps, block_bytes=1400, direction=way, **end)
    plan = replace(plan, settings=replace(own(plan.settings), dont_fragment=forbidden))
    async with serving(bind=sys.argv[1]) as server:
        try:
            report = await measure(server.port, plan, host=sys.argv[1])
        except IperfpyError as error:
            print(error)
            return
        await server.settled()
    received = report.end_rows[0].of(Side.RECEIVER)
    assert 0 < received.bytes <= 1400 * received.values["datagrams_received"]  # late ones are not in bytes
    # The sender knows the MTU: it warns at its end of the test.
    ends = [report] if way is Direction.FORWARD else server.tests
    print(*(warning for end in ends for warning in (*end.started.warnings, *end.ended.warnings)))

for way in (Direction.FORWARD, Direction.REVERSE):
    for rate_bps in (2_000_000, 0):
        for forbidden in (False, True):
            asyncio.run(main(rate_bps, forbidden, way))
"""


@pytest.mark.live
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_streams_of_datagrams_longer_than_the_mtu_are_fragmented_or_refused(host: str) -> None:
    """Streams of single datagrams and of batches, in both directions, are fragmented or refused.

    The refusal is reported even if the test would have ended before it was known.
    """
    if not (shutil.which("unshare") and shutil.which("ip")) or in_namespace(1300, "true").returncode:
        pytest.skip("needs the right to make a network namespace, and `ip`")
    done = in_namespace(1300, sys.executable, "-c", STREAM, host)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    sentence = "a datagram of 1400 bytes does not fit the path: choose a shorter block (-l)"
    assert len(lines) == 8
    longest = 1300 - (IPV6_HEADERS if ":" in host else IPV4_HEADERS)
    warning = (
        f"datagrams of 1,400 bytes travel in fragments: one packet of this path carries {longest:,} bytes"
    )
    assert lines[::2] == [f"{warning} (-l {longest})"] * 4
    assert all(line.endswith(sentence) for line in lines[1::2]), lines
