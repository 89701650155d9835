"""A test on which both ends have agreed, with its open streams: everything that is fixed about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iperfpy.endpoint.no_control import Control
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.metrics import CONGESTION_KEY, Side
from iperfpy.records import ConnectedStream, RunStarted, Sink, tell_all
from iperfpy.runtime.sockets import socket_facts
from iperfpy.traffic.open_stream import OpenStream


@dataclass(frozen=True, slots=True)
class AgreedTest:
    """The test as one end sees it. `streams` are in stream order, `features` those that the peer names, and
    `peer_version` is that of a server that greeted."""

    role: Role
    plan: Plan
    transport: Transport
    streams: Sequence[OpenStream]
    connection: Control
    features: frozenset[str] = frozenset()
    peer_version: str = ""

    @property
    def peer(self) -> str:
        """Name of the other end in errors, such as "the server"."""
        return self.connection.session.peer

    @property
    def peer_is_iperfpy(self) -> bool:
        """True if the peer speaks the extended protocol."""
        return self.connection.session.extended

    @property
    def peer_sides(self) -> Mapping[int, Side]:
        """Stream id -> the end of that stream that the peer is."""
        return {each.stream.id: Side.RECEIVER if each.stream.sends else Side.SENDER for each in self.streams}

    def direction_of(self, stream: Stream) -> Direction:
        """The direction in which the stream carries payload."""
        return Direction.FORWARD if stream.sends == (self.role is Role.CLIENT) else Direction.REVERSE

    @property
    def directions(self) -> Mapping[int, Direction]:
        """Stream id -> direction of its payload."""
        return {each.stream.id: self.direction_of(each.stream) for each in self.streams}

    def warnings(self) -> tuple[str, ...]:
        """The channels' warnings, each sentence once."""
        return tuple(dict.fromkeys(text for each in self.streams for text in each.channel.warnings()))

    def raise_fault(self) -> None:
        """Raise the first fault of a channel, after each was asked for its figures once more: no test with a
        fault ends as measured."""
        self.warnings()
        for each in self.streams:
            each.snapshots.now()
            if each.channel.fault is not None:
                raise each.channel.fault

    def _congestion(self) -> str:
        """The congestion control of this end's senders, or empty."""
        senders = (each.channel for each in self.streams if each.stream.sends)
        names = (channel.counters().get(CONGESTION_KEY) for channel in senders)
        return next((name for name in names if isinstance(name, str)), "")

    def announce(
        self, sinks: Sequence[Sink], peer: SocketAddress, tcp_mss: int | None, until: str = ""
    ) -> None:
        """Tell the sinks that data is about to flow.

        Parameters
        ----------
        peer : the other end's address, as reports show it
        tcp_mss : maximum segment size of the control connection, bytes
        until : see `RunStarted`
        """
        start = RunStarted(
            plan=self.plan,
            transport=self.transport,
            role=self.role,
            peer=peer,
            peer_is_iperfpy=self.peer_is_iperfpy,
            cookie=self.connection.session.cookie,
            connected=tuple(_connected(each) for each in self.streams),
            unix_time=time.time(),
            tcp_mss=tcp_mss,
            congestion=self._congestion(),
            warnings=self.warnings(),
            alone=not self.connection.has_peer,
            until=until,
        )
        tell_all(sinks, lambda sink: sink.start(start))


def _connected(opened: OpenStream) -> ConnectedStream:
    channel = opened.channel
    facts = socket_facts(channel.fileno())
    return ConnectedStream(
        opened.stream,
        channel.fileno(),
        plain(channel.local_address),
        plain(channel.remote_address),
        facts.mss_bytes,
        facts.send_buffer_bytes,
        facts.receive_buffer_bytes,
    )
