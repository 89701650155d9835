"""From a measurement to the sinks and to the other end: the same at the client and at the server."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from iperfpy.control.results import (
    Results,
    decode_results,
    decode_stats,
    encode_results,
    encode_stats,
    omitted_counts,
)
from iperfpy.control.session import Send
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.errors import InterruptError, IperfpyError, LateError, ProtocolError
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.metrics import Side
from iperfpy.records import (
    ConnectedStream,
    Row,
    RunEnded,
    RunStarted,
    Sample,
    ServerOutput,
    ServerOutputSink,
    Sink,
)
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.event_loop import now_us
from iperfpy.runtime.sockets import socket_facts
from iperfpy.sampling.loaded_latency import latency
from iperfpy.sampling.pairing import RowPairing
from iperfpy.sampling.sums import across
from iperfpy.traffic.transfer import OpenStream, Transfer

STATS_SLACK = 20
SHORTEST_INTERVAL_US = 100_000


class RunningTest:
    """A test whose streams are open, at one end: measures, reports, and exchanges figures.

    Data flows from construction on; the sinks have been told by `announce`.

    Parameters
    ----------
    role : Role
    started_us : when the other end may have begun to send

    Attributes
    ----------
    peer_went_on_us : for how long an iperf3 was left measuring when nothing more was to come
    """

    def __init__(
        self,
        role: Role,
        plan: Plan,
        transport: Transport,
        opened: Sequence[OpenStream],
        started_us: int,
        wire: ControlConnection,
        guard: AbortScope,
        deadlines: Deadlines,
        sinks: Sequence[Sink],
    ) -> None:
        self.plan = plan
        self.transport = transport
        self._role = role
        self._wire = wire
        self._guard = guard
        self._deadlines = deadlines
        self._sinks = sinks
        self._opened = opened
        self._warned = _warnings(opened)
        self._streams = [each.stream for each in opened]
        self._sides = {stream.id: _opposite(stream) for stream in self._streams}
        self._results: Results | None = None
        self._finished = False
        self._totals: tuple[Sample, ...] | None = None
        self._cpu: Mapping[str, float] = {}
        self._congestion = ""
        self._sequence = 0
        self._peer_sequence = 0
        self._started_us = self._heard_us = started_us
        self.extended = wire.session.extended
        self.peer_went_on_us = 0
        self._idle_rtt_us = wire.round_trip_us()  # before data flows
        self._rows = RowPairing(
            {stream.id: self._direction(stream) for stream in self._streams},
            transport.metrics,
            plan.interval_us,
            round(deadlines.row_s * 1e6) if self.extended else 0,
            self._emit,
        )
        self.measurement = Transfer(
            plan,
            transport,
            opened,
            started_us,
            guard,
            deadlines,
            limited=role is Role.CLIENT or (self.extended and not plan.omit_us),
            known_end=role is Role.CLIENT,
            on_tick=self._on_tick,
            on_poll=self._on_poll,
        )
        wire.give_stats(self._on_stats)

    # -- while data flows

    def _on_tick(self, samples: tuple[Sample, ...], now: int) -> None:
        self._say_stats(samples)
        self._rows.own(samples, now)

    def _on_poll(self, now: int) -> None:
        self._rows.release(now)
        if self.extended and self.plan.interval_us:
            silent_s = (now - self._heard_us - 2 * self.plan.interval_us) / 1e6
            if silent_s > self._deadlines.silence_s:
                self._guard.abort(
                    LateError(f"{self._wire.session.peer} has said nothing for {silent_s:.0f} s")
                )

    def _on_stats(self, document: Mapping[str, Any]) -> None:
        peer, now = self._wire.session.peer, now_us()
        stats = decode_stats(document, self.transport, self._sides, peer)
        fastest = STATS_SLACK + (now - self._started_us) // SHORTEST_INTERVAL_US
        if stats.sequence != self._peer_sequence or stats.sequence > fastest:
            raise ProtocolError(f"{peer} sent interval figures out of turn")
        self._peer_sequence += 1
        self._heard_us = now
        self.measurement.peer_finished = stats.finished
        self._rows.peer(stats.samples, now)

    def _say_stats(self, samples: Sequence[Sample], *, finished: bool = False) -> None:
        if self.extended and self._wire.can(Send.STATS):
            self._wire.send(Send.STATS, encode_stats(self._sequence, samples, finished=finished))
            self._sequence += 1

    # -- the end

    def finish(self) -> None:
        """Stop measuring, and tell the other end about the last interval. Idempotent."""
        if self._finished:
            return
        self._finished = True
        self.measurement.finish(stop=self._role is Role.CLIENT or self.extended)
        self._cpu = self.measurement.cpu.percent()
        self._congestion = socket_facts(self._opened[0].channel.fileno()).congestion
        receives = not all(stream.sends for stream in self._streams)
        if not (self._role is Role.CLIENT and receives and self.extended and self.measurement.compared):
            self._sum_up()

    def count_latecomers(self) -> None:
        """The other end has stopped as well, and said so."""
        self.measurement.count_latecomers()
        self._sum_up()

    def _sum_up(self) -> None:
        if self._totals is not None:
            return
        last, self._totals, now = self.measurement.samples()
        if self.plan.interval_us:
            self._say_stats(last)
            self._rows.own_last(last, now)

    def own_results(self, server_output: ServerOutput = "") -> dict[str, Any]:
        """The results document of this end, with the report that the client wants to have."""
        return encode_results(
            self.transport,
            self._totals or (),
            self._cpu,
            self._congestion,
            extended=self.extended,
            server_output=server_output,
            omitted=self._omitted(),
        )

    def take_results(self, body: Mapping[str, Any]) -> None:
        """The other end's results document."""
        peer = self._wire.session.peer
        self._results = decode_results(body, self.transport, self._sides, peer, self._omitted())

    def _omitted(self) -> dict[int, dict[str, int]]:
        """What this end counted before the measured stretch, in the words of the results."""
        metrics = self.transport.metrics
        return {
            track.stream.id: omitted_counts(metrics, track.sampler.omitted)
            for track in self.measurement.tracks
        }

    def conclude(self, error: IperfpyError | None = None) -> None:
        """Give the sinks everything that is left, and what ended the test early."""
        end = self._end(error)
        for sink in self._sinks:
            sink.end(end)

    def conclude_early(self, sink: ServerOutputSink) -> ServerOutput:
        """Give one of the sinks the end as the client's results tell it, before ours are sent."""
        sink.end(self._end(None))
        self._sinks = [each for each in self._sinks if each is not sink]
        return sink.output()

    def _end(self, error: IperfpyError | None) -> RunEnded:
        self.finish()
        self._sum_up()
        self._rows.release_all()
        totals, results = self._totals or (), self._results
        rows = tuple(self._summary(total) for total in totals)
        return RunEnded(
            rows=rows,
            cpu_percent=self._cpu_percent(),
            interrupted=str(error or ""),
            failed=error is not None and not isinstance(error, InterruptError),
            extra=self._extra(),
            warnings=tuple(one for one in _warnings(self._opened) if one not in self._warned),
            server_output=results.server_output if results and self.plan.get_server_output else "",
            latency=latency(self._idle_rtt_us, rows),
        )

    def _summary(self, total: Sample) -> Row:
        stream = next(each for each in self._streams if each.id == total.stream)
        known = self._rows.peer_totals if self._results is None else self._results.samples
        peer = known.get(total.stream)
        if peer is not None and not peer.end_us:  # an iperf3 before 3.2 does not say how long it measured
            peer = replace(peer, end_us=total.end_us)
        elif peer is not None and not self.extended:  # its time goes on until it hears of the end
            peer = replace(peer, end_us=max(1, peer.end_us - self.peer_went_on_us))
        return across(Row(total.stream, total, peer, self._direction(stream)), self.transport.metrics)

    def _cpu_percent(self) -> dict[str, float]:
        percent = dict(self._cpu)
        if self._results is not None:
            percent |= {f"remote_{part}": value for part, value in self._results.cpu_percent.items()}
        return percent

    def _extra(self) -> dict[str, Any]:
        """The congestion control of both ends, under iperf3's keys, as far as it is known."""
        receives = all(not stream.sends for stream in self._streams)
        own, other = ("receiver", "sender") if receives else ("sender", "receiver")
        used = {
            f"{own}_tcp_congestion": self._congestion,
            f"{other}_tcp_congestion": self._results.congestion if self._results else "",
        }
        return {key: value for key, value in used.items() if value}

    def _emit(self, rows: tuple[Row, ...]) -> None:
        for sink in self._sinks:
            sink.interval(rows)

    def _direction(self, stream: Stream) -> Direction:
        return Direction.FORWARD if stream.sends == (self._role is Role.CLIENT) else Direction.REVERSE


def _opposite(stream: Stream) -> Side:
    """Which end of the stream the other program is."""
    return Side.RECEIVER if stream.sends else Side.SENDER


def _warnings(opened: Sequence[OpenStream]) -> tuple[str, ...]:
    """What the channels have to say, each sentence once."""
    return tuple(dict.fromkeys(text for each in opened for text in each.channel.warnings()))


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


def announce(
    sinks: Sequence[Sink],
    role: Role,
    peer: SocketAddress,
    plan: Plan,
    transport: Transport,
    opened: Sequence[OpenStream],
    wire: ControlConnection,
    tcp_mss: int | None,
) -> None:
    """Tell the sinks that the test is about to run. `peer`: the other end, as reports show it."""
    start = RunStarted(
        plan=plan,
        transport=transport,
        role=role,
        peer=peer,
        peer_is_iperfpy=wire.session.extended,
        cookie=wire.session.cookie,
        connected=tuple(_connected(each) for each in opened),
        unix_time=time.time(),
        tcp_mss=tcp_mss,
        warnings=_warnings(opened),
    )
    for sink in sinks:
        sink.start(start)
