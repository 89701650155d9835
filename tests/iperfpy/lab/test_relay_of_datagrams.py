"""The relay of `--relay`, with a clock that the test sets."""

from __future__ import annotations

from typing import cast

import numpy as np

from iperfpy.lab.datagram_relay import DatagramRelay
from iperfpy.lab.way import Way
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.simulator.path_language import parse

DELAY_US, LATE_US = 20_000.0, 500.0
CLIENT: SocketAddress = ("127.0.0.1", 9)


class Slow:
    """A socket that gets its only datagram while the relay is about to read it."""

    def __init__(self) -> None:
        self.now_us = 0.0
        self._waiting = [DatagramBatch.of(np.zeros(100, np.uint8), 100)]

    def clock(self) -> float:
        return self.now_us

    def receive(self) -> tuple[DatagramBatch, SocketAddress] | None:
        if not self._waiting:
            return None
        self.now_us += LATE_US
        return self._waiting.pop(), CLIENT


def test_a_datagram_that_arrives_during_a_turn_takes_the_whole_path() -> None:
    there, back = (Way(path, np.random.SeedSequence(1), -28) for path in parse("delay=20ms"))
    slow = Slow()
    socket = cast(DatagramSocket, slow)
    relay = DatagramRelay(socket, CLIENT, (there, back), slow.clock)
    relay.turn([socket])
    assert relay.due_us() == LATE_US + DELAY_US
    for client in relay.sockets()[1:]:
        client.close()
