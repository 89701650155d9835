"""The figures of an interval, exchanged while data flows, with iperfpy at both ends.

Each end sends one document per interval, numbered from 0. `ControlConnection` checks that they come at a
plausible pace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy.control.results import Stats, decode_stats, encode_stats
from iperfpy.control.session import Send
from iperfpy.endpoint.no_control import Control
from iperfpy.errors import ProtocolError
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Side
from iperfpy.records import Sample


class IntervalFigures:
    """Sends this end's figures and receives the peer's.

    Parameters
    ----------
    peer_sides : stream id -> the end of that stream that the peer is
    """

    def __init__(
        self,
        connection: Control,
        transport: Transport,
        peer_sides: Mapping[int, Side],
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._peer_sides = peer_sides
        self._sent = self._received = 0
        self._finished = False

    def send(self, samples: Sequence[Sample]) -> None:
        """Send the samples of one interval, if the peer is iperfpy and the test runs."""
        session = self._connection.session
        if session.extended and self._connection.can(Send.STATS):
            self._connection.send(
                Send.STATS,
                encode_stats(self._sent, samples, self._transport.metrics, finished=self._finished),
            )
            self._sent += 1

    def finish(self) -> None:
        """Say that this end has sent the whole amount: at once, in a document of no interval, and in every
        later one."""
        self._finished = True
        self.send(())

    def receive(self, document: Mapping[str, Any]) -> Stats:
        """The peer's figures of one interval. Raises `ProtocolError`."""
        peer = self._connection.session.peer
        stats = decode_stats(document, self._transport, self._peer_sides, peer)
        if stats.sequence != self._received:
            raise ProtocolError(f"{peer} sent interval figures out of turn")
        self._received += 1
        return stats
