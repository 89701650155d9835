"""The beginning of a run of the lab, and its logs, without namespaces."""

from __future__ import annotations

import io
import json
import socket
from math import inf
from typing import Any

import numpy as np

from iperfpy.lab import lab_session
from iperfpy.lab.frame_ring import HEADER_BYTES
from iperfpy.lab.lab_status import LabTime
from iperfpy.lab.way import Way
from iperfpy.protocols.simulator.link_log import LinkLog
from iperfpy.protocols.simulator.path_language import parse


class Turns:
    """A relay that counts its turns; something is due at any time."""

    def __init__(self) -> None:
        self.turns = 0

    def turn(self) -> None:
        self.turns += 1

    def rest_us(self) -> float:
        return 0.0

    def due_us(self) -> float:
        return 0.0


def test_the_path_stands_still_until_the_command_begins() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        course, relay = lab_session._Course(ours, LabTime(), inf), Turns()
        sources: list[Any] = []
        lab_session._turn(relay, course, sources)  # type: ignore[arg-type]
        assert relay.turns == 0
        theirs.send(json.dumps({"event": "started"}).encode())
        lab_session._turn(relay, course, sources)  # type: ignore[arg-type]
        lab_session._turn(relay, course, sources)  # type: ignore[arg-type]
        assert relay.turns == 1


def test_a_way_writes_the_log_of_its_queue_with_sizes_of_ip_packets() -> None:
    way = Way(parse("trace=constant:6M,queue=1p")[0], np.random.SeedSequence(1), -HEADER_BYTES)
    stream = io.StringIO()
    way.keep_log(LinkLog(stream, "uplink", "6M\n queue=1p", "droptail [packets=1]"))
    inbox = way.inbox()
    way.carry(500.0, np.zeros((2, 1_500 + HEADER_BYTES), np.uint8), inbox)
    way.write_log(3_000.0)
    lines = stream.getvalue().splitlines()
    assert lines[1] == "# command line: iperfpy lab 6M queue=1p"
    assert lines[5:] == ["0 + 1504", "0 + 1504", "0 d 1 1504", "2 # 1504", "2 - 1504 2"]
