"""The figures of the whole test: this end's, the peer's, and the record that reports get of both.

No record leaves without the verdict of `sampling.result_gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from iperfpy import __version__
from iperfpy.control.parameters import PATH_EVIDENCE, RESPONSIVENESS
from iperfpy.control.results import Results, decode_results, encode_results, omitted_counts
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.endpoint.probing import Probing
from iperfpy.endpoint.transport_sentences import TransportSentences
from iperfpy.endpoint.verdict import evidence_of, findings_of, with_held_up
from iperfpy.errors import InterruptError, IperfpyError
from iperfpy.plan import Role
from iperfpy.protocols.metrics import Counters, Side
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.records import (
    EndFacts,
    HostClock,
    MessageTimes,
    Responsiveness,
    Row,
    RunEnded,
    Sample,
    ServerOutput,
)
from iperfpy.runtime.sockets import socket_facts
from iperfpy.sampling.host import host_clock, system_name, wall_us
from iperfpy.sampling.loaded_latency import idle_us, latency
from iperfpy.sampling.result_gate import Ended, Totals, completed, judge
from iperfpy.traffic.transfer import Transfer


class ClosingReport:
    """Collects the figures of the end.

    Parameters
    ----------
    peer_omitted : stream id -> the peer's intervals of the omitted period added up, as they come

    Attributes
    ----------
    totals : this end's samples of the whole test, one per stream; None until they are known
    peer_overrun_us : time that a stock peer went on measuring after this end had stopped
    """

    def __init__(
        self,
        test: AgreedTest,
        transfer: Transfer,
        probing: Probing,
        sentences: TransportSentences,
        peer_omitted: Mapping[int, Sample],
    ) -> None:
        self.totals: tuple[Sample, ...] | None = None
        self.peer_overrun_us = 0
        self._test = test
        self._transfer = transfer
        self._probing = probing
        self._sentences = sentences
        self._peer_omitted = peer_omitted
        self._started_with = test.warnings()
        self._warnings: tuple[str, ...] = ()
        self._connection_rtt_us = test.connection.round_trip_us()  # read before data flows
        self._opening_us = [each.channel.opening_us for each in test.streams]
        self._cpu_percent: Mapping[str, float] = {}
        self._congestion = ""
        self._socket = socket_facts(test.streams[0].channel.fileno())  # buffers grow while data flows
        self._results: Results | None = None
        self._evidence: Mapping[int, PathEvidence] = {}
        self._messages: MessageTimes | None = None
        self._wall_us = wall_us()
        self._clock: HostClock | None = None

    def stop(self) -> None:
        """Read the figures that are of the moment at which this end stops."""
        self._cpu_percent = self._transfer.cpu.percent()
        self._congestion = socket_facts(self._test.streams[0].channel.fileno()).congestion
        # Later errors are of the end itself: the peer may have closed its sockets before this end does.
        self._warnings = tuple(one for one in self._test.warnings() if one not in self._started_with)
        self._messages = self._transfer.message_times()
        if self._test.plan.messages_per_s:
            self._clock = host_clock(self._wall_us, self._test.connection.session.cookie)
        held_up_us = self._transfer.held_up_us
        self._evidence = {
            each.stream.id: evidence
            for each in self._test.streams
            if (evidence := with_held_up(each.channel.evidence(), each.stream.sends, held_up_us)) is not None
        }

    def results_document(self, server_output: ServerOutput) -> dict[str, Any]:
        """This end's results for the peer, with the report that a client asked for.

        A stock client shows them as they are. So a server, which knows the client's results by now, gives it
        the figures of its own record, with the losses that only the sender's count shows. An iperfpy peer
        gets the counts: it completes them itself, and the difference tells it of a path that died.
        """
        test = self._test
        totals = self.totals or ()
        if not test.peer_is_iperfpy:
            totals = tuple(row.local for row in completed(self._of_both({}), test.transport))
        return encode_results(
            test.transport,
            totals,
            self._cpu_percent,
            self._congestion,
            extended=test.peer_is_iperfpy,
            server_output=server_output,
            omitted=self._omitted(),
            evidence=self._evidence if PATH_EVIDENCE in test.features else {},
            self_probes=self._probing.self_probes if RESPONSIVENESS in test.features else {},
            clock=self._clock,
            warnings=(*self._started_with, *self._warnings) if test.role is Role.SERVER else (),
            server=self._own_facts() if test.role is Role.SERVER else None,
        )

    def take_results(self, body: Mapping[str, Any]) -> None:
        """Take the peer's results. Raises `ProtocolError`."""
        test = self._test
        self._results = decode_results(body, test.transport, test.peer_sides, test.peer, self._omitted())

    def record(self, error: IperfpyError | None, peer_totals: Mapping[int, Sample]) -> RunEnded:
        """The record of the end.

        Parameters
        ----------
        error : the error that ended the test early, or None
        peer_totals : the peer's figures added up from its intervals, for want of its results
        """
        totals = self._of_both(peer_totals)
        verdict = judge(
            totals,
            self._test.plan,
            self._test.transport,
            _way_of(error),
            peer_reports=self._test.connection.has_peer,
        )
        results, cpu_percent = self._results, self._cpu_of_both()
        idle_rtt_us = idle_us(self._connection_rtt_us, self._opening_us, verdict.rows)
        failed = _way_of(error) is Ended.FAILED or bool(verdict.failure)
        # Of a test that failed, figures may be missing: they prove nothing.
        # The limit of a sender at a bare peer is not known here.
        known = [row for row in verdict.rows if self._test.connection.has_peer or row.of(Side.SENDER)]
        evidence = () if failed else self._evidence_of_both(known, cpu_percent, idle_rtt_us)
        try:
            remarks = self._sentences.of_test(verdict.rows)
        except IperfpyError:
            if error is None:
                raise
            remarks = ()  # the test has ended by another error
        return RunEnded(
            rows=verdict.rows,
            cpu_percent=cpu_percent,
            interrupted=_sentence(error, verdict.failure),
            failed=failed,
            extra=self._congestion_of_both(),
            warnings=(*self._warnings, *self._peers_warnings(), *remarks, *verdict.warnings),
            server_output=results.server_output if results and self._test.plan.get_server_output else "",
            latency=latency(idle_rtt_us, verdict.rows, self._responsiveness(idle_rtt_us)),
            findings=findings_of(evidence),
            evidence=evidence,
            messages=self._messages_with_clocks(),
            server=self._servers_facts(),
        )

    def record_without_conclusions(self, error: IperfpyError, peer_totals: Mapping[int, Sample]) -> RunEnded:
        """The record of the end of a test for which `record` failed: the figures, and `error`."""
        return RunEnded(
            rows=self._of_both(peer_totals).rows,
            cpu_percent=self._cpu_of_both(),
            interrupted=str(error),
            failed=True,
            warnings=self._warnings,
        )

    def raise_fault(self) -> None:
        """Raise the fault of `TransportSentences.of_test`, asked about the figures that are known so far."""
        self._sentences.of_test(self._of_both({}).rows)

    def _peers_warnings(self) -> tuple[str, ...]:
        """The warnings of the server's streams, for its client: the server's own log is at the server."""
        if self._results is None or self._test.role is Role.SERVER:
            return ()
        return tuple(f"at {self._test.peer}: {text}" for text in self._results.warnings)

    def _own_facts(self) -> EndFacts:
        """The facts about this end for its client, which the user of that client may show to anyone."""
        one = self._socket
        return EndFacts(
            f"iperfpy {__version__}",
            system_name(),
            one.mss_bytes,
            one.send_buffer_bytes,
            one.receive_buffer_bytes,
        )

    def _servers_facts(self) -> EndFacts:
        """The facts that the server told its client. An older iperfpy named its version in its greeting."""
        if self._test.role is Role.SERVER:
            return EndFacts()
        told = self._results.server if self._results is not None else EndFacts()
        greeted = f"iperfpy {self._test.peer_version}" if self._test.peer_version else ""
        return replace(told, version=told.version or greeted)

    def _responsiveness(self, idle_rtt_us: float | None) -> Responsiveness | None:
        """The responsiveness; None if a proxy answers connections in the place of the server, since the
        foreign probes, which are connections, do not pass the path of the datagrams then."""
        if idle_rtt_us != self._connection_rtt_us:
            return None
        return self._probing.judged(self._results.self_probes if self._results else {})

    def _messages_with_clocks(self) -> MessageTimes | None:
        """The times of a message test, with the clocks of both ends if the server told its own."""
        peers = self._results.clock if self._results is not None else None
        if self._messages is None or self._clock is None or peers is None:
            return self._messages
        return replace(self._messages, clocks=(self._clock, peers))

    def _evidence_of_both(
        self, rows: Sequence[Row], cpu_percent: Mapping[str, float], idle_rtt_us: float | None
    ) -> tuple[RunEvidence, ...]:
        peers = self._results.evidence if self._results is not None else {}
        quiet_us = self._transfer.quiet_us
        return evidence_of(self._test, rows, self._evidence, peers, cpu_percent, idle_rtt_us, quiet_us)

    def _of_both(self, peer_totals: Mapping[int, Sample]) -> Totals:
        """The figures of both ends, as far as they are known by now."""
        # The peer's results are exact; its intervals added up are the next best, should they be missing.
        known = peer_totals if self._results is None else self._results.samples
        rows = tuple(self._row(total, known.get(total.stream)) for total in self.totals or ())
        return Totals(rows, self._omitted_at_both(), self._compared())

    def _omitted(self) -> dict[int, dict[str, int]]:
        """Stream id -> this end's counts of the omitted period, under the keys of the results."""
        metrics = self._test.transport.metrics
        return {
            each.stream.id: omitted_counts(metrics, each.sampler.omitted) for each in self._transfer.streams
        }

    def _omitted_at_both(self) -> dict[tuple[int, Side], Counters]:
        """Both ends' counts of the omitted period, by metric key."""
        results = self._results.omitted if self._results else {}
        own = {(one.stream.id, one.sampler.side): one.sampler.omitted for one in self._transfer.streams}
        theirs: dict[tuple[int, Side], Counters] = {}
        for stream, side in self._test.peer_sides.items():
            # Its results are exact, and have few of its counts.
            intervals = self._peer_omitted.get(stream)
            counts = {**(intervals.values if intervals else {}), **results.get(stream, {})}
            if counts:
                theirs[stream, side] = counts
        return {**own, **theirs}

    def _compared(self) -> frozenset[int]:
        """Streams with counters that both ends read when nothing was under way any more.

        This end counts late. An iperfpy peer says if it does; a stock server closes its streams before it
        sends results, and was given time to read; a stock client stops reading before it says so.
        """
        test, results = self._test, self._results
        if results is None:
            return frozenset()
        if test.peer_is_iperfpy:
            trusted = set(Side) if results.counted_late else set()
        else:
            trusted = set(Side) if test.role is Role.CLIENT else {Side.SENDER}
        return frozenset(
            stream
            for stream, side in test.peer_sides.items()
            # Before 3.14, iperf3 does not tell which of its counts are of the omitted period.
            if side in trusted and (not test.plan.omit_us or results.omitted.get(stream))
        )

    def _row(self, total: Sample, peer: Sample | None) -> Row:
        if peer is not None and not peer.end_us:  # an iperf3 before 3.2 does not send its measured time
            peer = replace(peer, end_us=total.end_us)
        elif peer is not None and not self._test.peer_is_iperfpy:
            # A stock peer measures until it hears of the end.
            peer = replace(peer, end_us=max(1, peer.end_us - self.peer_overrun_us))
        direction = self._test.directions[total.stream]
        return Row(total.stream, total, peer, direction)

    def _cpu_of_both(self) -> dict[str, float]:
        percent = dict(self._cpu_percent)
        if self._results is not None:
            percent |= {f"remote_{part}": value for part, value in self._results.cpu_percent.items()}
        return percent

    def _congestion_of_both(self) -> dict[str, Any]:
        """The congestion control of both ends, under iperf3's keys, as far as it is known."""
        receives = all(not each.stream.sends for each in self._test.streams)
        own, other = ("receiver", "sender") if receives else ("sender", "receiver")
        used = {
            f"{own}_tcp_congestion": self._congestion,
            f"{other}_tcp_congestion": self._results.congestion if self._results else "",
        }
        return {key: value for key, value in used.items() if value}


def _way_of(error: IperfpyError | None) -> Ended:
    """The way in which the test ended, by the error that ended it early."""
    if error is None:
        return Ended.PLANNED
    return Ended.INTERRUPTED if isinstance(error, InterruptError) else Ended.FAILED


def _sentence(error: IperfpyError | None, failure: str) -> str:
    """The sentence of the end. That nothing was measured matters more than the signal that ended it."""
    if error is None:
        return failure
    return f"{failure} ({error})" if failure else str(error)
