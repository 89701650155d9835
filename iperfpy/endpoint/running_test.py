r"""One end of a test while data flows: it measures, reports, and exchanges figures with the peer.

    transfer --samples--> rows (own and the peer's) --> sinks
                 \-----> interval figures --> peer
    closing report: totals, the peer's results --> RunEnded --> sinks

`lifecycle.py` has the order of the verbs, `traffic/ending.py` the events that end a test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from iperfpy.control.framing import State
from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.endpoint.closing_report import ClosingReport
from iperfpy.endpoint.foreign_probes import ForeignProbes
from iperfpy.endpoint.interval_figures import IntervalFigures
from iperfpy.endpoint.lifecycle import Lifecycle, LifecycleStep, Stage
from iperfpy.endpoint.probing import Probing
from iperfpy.endpoint.transport_sentences import TransportSentences
from iperfpy.errors import InterruptError, IperfpyError, LateError, PathError, fault_of
from iperfpy.plan import Direction, Role
from iperfpy.protocols.clock import now_us
from iperfpy.records import Row, RunEnded, Sample, ServerOutput, ServerOutputSink, Sink, tell_all
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.hearing import Hearing, Patience
from iperfpy.sampling.pairing import RowPairing
from iperfpy.traffic.ending import EndEvent, EndRule
from iperfpy.traffic.payload import SMALLEST_SLICE_BYTES
from iperfpy.traffic.transfer import Transfer

SILENCE_POLL_S = 0.02


class RunningTest:
    """One end of a test. The sinks know of it already, by `AgreedTest.announce`.

    Parameters
    ----------
    started_us : time from which the peer may have sent
    foreign : probes that this end sends beside the load, or None
    rule : the end of the test at this end; None: that of its role
    """

    def __init__(
        self,
        test: AgreedTest,
        started_us: int,
        scope: AbortScope,
        deadlines: Deadlines,
        sinks: Sequence[Sink],
        foreign: ForeignProbes | None = None,
        rule: EndRule | None = None,
    ) -> None:
        self.rule = rule or EndRule.of(
            test.role,
            test.plan,
            peer_is_iperfpy=test.peer_is_iperfpy,
            may_lose=test.transport.delivery is not None,
            sends_file=any(each.stream.sends and each.file is not None for each in test.streams),
        )
        self._test = test
        self._plan = test.plan
        self._scope = scope
        self._deadlines = deadlines
        self._sinks = sinks
        self._lifecycle = Lifecycle(test.role, alone=not test.connection.has_peer)
        self._figures = IntervalFigures(test.connection, test.transport, test.peer_sides)
        # A stock peer sends no interval figures: its rows have nothing to wait for.
        self._rows = RowPairing(
            test.directions,
            test.transport.metrics,
            test.plan.interval_us,
            round(deadlines.row_s * 1e6) if test.peer_is_iperfpy else 0,
            self._emit,
        )
        self._transfer = Transfer(
            test.plan,
            test.transport,
            test.streams,
            started_us,
            self.rule,
            scope,
            deadlines,
            self._on_tick,
            self._on_poll,
        )
        self._probing = Probing(test, self._transfer, foreign)
        self._sentences = TransportSentences(test.transport)
        self._closing = ClosingReport(
            test, self._transfer, self._probing, self._sentences, self._rows.peer_omitted
        )
        self._telling: asyncio.Task[None] | None = None
        self._silent_rows: deque[tuple[tuple[Sample, ...], int]] = deque()
        self._planned_end_us = started_us + test.plan.omit_us + test.plan.duration_us
        self._hearing = Hearing(
            test.peer, self._heard_us, lambda: self._transfer.began_us, self._transfer.signs
        )

    def start(self) -> None:
        """Let data flow, and listen to the peer's figures."""
        self._lifecycle.take(LifecycleStep.START)
        self._transfer.start()
        self._probing.start()
        self._test.connection.attach(self)
        if self.rule.tells_finished:
            self._telling = asyncio.create_task(self._tell_finished())

    async def _tell_finished(self) -> None:
        """Tell the peer when this end has sent the whole amount, or its file. Parts of the amount may be
        lost, and the peer does not know the length of the file."""
        with contextlib.suppress(IperfpyError):  # a stream that fails is reported by the stream
            await self._transfer.all_sent()
            if not self._transfer.is_over:
                self._figures.finish()

    # -- while data flows

    def on_state(self, state: State) -> None:
        """Stop in the very callback in which TEST_END arrives, unless payload is still awaited."""
        if state is State.TEST_END and self.rule.events[-1] is EndEvent.TEST_END:
            self.stop()

    def on_stats(self, document: Mapping[str, Any]) -> None:
        """Take the peer's figures of one interval."""
        stats = self._figures.receive(document)
        if stats.finished:
            self._transfer.peer_finished.set()
        if stats.samples or not stats.finished:
            self._rows.peer(stats.samples, now_us())

    def _on_tick(self, samples: tuple[Sample, ...], now: int) -> None:
        self._figures.send(samples)
        if self.rule.ends_with_silence:
            # Silent intervals at the end do not belong to the test; whether these are at the end, the next
            # payload tells.
            self._silent_rows.append((samples, now))
            if not any(sample.bytes for sample in samples):
                return
            while self._silent_rows:
                self._rows.own(*self._silent_rows.popleft())
            return
        self._rows.own(samples, now)

    def _on_poll(self, now: int) -> None:
        self._rows.release(now)
        self._sentences.raise_fault()
        self._probing.poll(now)
        # An iperfpy peer sends figures; without a planned end, only their absence tells that it is gone.
        if self._test.peer_is_iperfpy and self._plan.interval_us:
            longest_s = self._deadlines.silence_s(has_planned_end=self._plan.duration_us > 0)
            silent_us = now - self._hearing.last_us()
            if longest_s is not None and silent_us > longest_s * 1e6 + 2 * self._plan.interval_us:
                raise LateError(self._hearing.sentence())
        if self.rule.silence_fails and now - self._hearing.last_us() > self._longest_silence_us:
            raise LateError(self._hearing.sentence())

    @property
    def _longest_silence_us(self) -> float:
        """Time without a sign of the peer after which it is gone. A slow sender (-b) gives it fewer reasons
        to answer."""
        pauses_us = 2 * 8e6 * SMALLEST_SLICE_BYTES / self._plan.rate_bps if self._plan.rate_bps else 0
        return self._deadlines.quiet_s * 1e6 + pauses_us

    async def _silent(self) -> None:
        """Wait until the peer, which has begun, sends nothing any more."""
        while now_us() - self._hearing.last_us() <= self._longest_silence_us:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(SILENCE_POLL_S)

    def _heard_us(self) -> int | None:
        known = (self._test.connection.heard_us, self._transfer.heard_us())
        return max((at_us for at_us in known if at_us is not None), default=None)

    def patience(self, *, after_planned_end: bool = False) -> Patience:
        """The limit of a wait for the peer's last messages: from now on, or from the planned end on."""
        end_us = self._planned_end_us if after_planned_end else now_us()
        return Patience(self._hearing, end_us, self._deadlines.quiet_s, self._deadlines.results_s)

    def _emit(self, rows: tuple[Row, ...]) -> None:
        noticed = tuple(map(self._sentences.noticed, rows))
        tell_all(self._sinks, lambda sink: sink.interval(noticed))

    # -- the end

    async def happened(self, event: EndEvent) -> None:
        """Wait for an event that this end notices by itself: every one but TEST_END. The end of a file that
        the peer sends (-F) stands for the planned end."""
        waits = {
            EndEvent.TIME_OVER: self._transfer.time_over,
            EndEvent.ALL_SENT: self._transfer.all_sent,
            EndEvent.ALL_RECEIVED: self._transfer.all_received,
            EndEvent.SETTLED: self._transfer.settled,
            EndEvent.ANSWERED: self._transfer.answered,
            EndEvent.ABORT: self._scope.until_aborted,
            EndEvent.SILENT: self._silent,
        }
        if event in (EndEvent.TIME_OVER, EndEvent.ABORT) and self._plan.direction is Direction.REVERSE:
            await _first_of(waits[event](), self._transfer.file_received())
        else:
            await waits[event]()

    def stop(self) -> None:
        """Stop counting, and send the peer the last interval. May be repeated."""
        if self._lifecycle.take(LifecycleStep.STOP) is not Stage.RUNNING:
            return
        self._probing.stop()
        self._transfer.finish(stop_sending=self.rule.stops_senders)
        self._closing.stop()
        waits = self._test.role is Role.CLIENT and self.rule.counts_late
        # A server's last interval has to leave before its client may send results.
        if not (waits and self._transfer.keys_compared_across_ends):
            self._sum_up()

    async def stopped_sending(self) -> None:
        """Wait until this end's senders, which have been stopped, are idle."""
        if self.rule.stops_senders:
            await self._transfer.senders_stopped()

    async def end_streams(self) -> None:
        """The peer has stopped as well: read what has arrived, close the streams, count what was late."""
        complete = await self._transfer.late_arrived() if self.rule.counts_late else True
        await self.close_streams()
        self._lifecycle.take(LifecycleStep.COUNT_LATE)
        if self.rule.counts_late:
            self._transfer.count_late(complete=complete)
        self._sum_up()
        self._closing.totals = self._transfer.totals()

    def results(self, server_output: ServerOutput = "") -> dict[str, Any]:
        """The results document of this end, with the report that the client asked for."""
        self.raise_fault()  # before the peer can take the test for measured
        self._lifecycle.take(LifecycleStep.SEND_RESULTS)
        return self._closing.results_document(server_output)

    def raise_fault(self) -> None:
        """Raise the fault of a channel or of the transport, if there is one."""
        self._test.raise_fault()
        self._closing.raise_fault()

    def take_results(self, body: Mapping[str, Any]) -> None:
        """Take the peer's results document."""
        self._lifecycle.take(LifecycleStep.TAKE_RESULTS)
        self._closing.take_results(body)

    def show_output(self, sink: ServerOutputSink) -> ServerOutput:
        """Give one of the sinks the end, and return the report that it made: it travels with the results."""
        self._lifecycle.take(LifecycleStep.SHOW_OUTPUT)
        _, fault = self._tell_end([sink], None)
        if fault is not None:
            raise fault
        self._sinks = [each for each in self._sinks if each is not sink]
        return sink.output()

    def conclude(self) -> None:
        """Give the sinks everything that is left. Raises `PathError` if the test measured nothing."""
        self.raise_fault()
        self._lifecycle.take(LifecycleStep.CONCLUDE)
        end, fault = self._tell_end(self._sinks, None)
        if fault is not None:
            raise fault
        if end.failed:
            raise PathError(end.interrupted)

    def fail(self, error: IperfpyError) -> IperfpyError:
        """Give the sinks everything that is left, and the error that ended the test early. Returns the error
        to raise: that one. If a user stopped the test: the fault that was met before or meanwhile, or a
        `PathError` if nothing had arrived."""
        self.stop()
        if self._lifecycle.take(LifecycleStep.FAIL) is Stage.OVER:
            return error
        end, fault = self._tell_end(self._sinks, error)
        if isinstance(error, InterruptError):
            if fault is not None:
                return fault
            if end.failed:
                return PathError(end.interrupted)
        return error

    def note_peer_overrun(self, overrun_us: int) -> None:
        """A stock peer went on measuring for that time after this end had stopped."""
        self._closing.peer_overrun_us = overrun_us

    async def close_streams(self) -> None:
        """Close all channels and end all tasks. Idempotent."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._probing.close()
        await self._transfer.close()

    def _sum_up(self) -> None:
        """Take the figures of the last interval and of the whole test, once."""
        if self._closing.totals is not None:
            return
        last, now = self._transfer.last_interval()
        self._closing.totals = self._transfer.totals()
        if self._plan.interval_us:
            self._figures.send(last)
            # The time of a test that ends with a silence is over before the last tick.
            if last[0].end_us > last[0].start_us or not self.rule.ends_with_silence:
                self._rows.own_last(last, now)

    def _tell_end(
        self, sinks: Sequence[Sink], error: IperfpyError | None
    ) -> tuple[RunEnded, IperfpyError | None]:
        """Give the sinks the record of the end. Returns it, and the fault that goes before the planned end or
        that of the user: of the transport, or of this program in making the record."""
        fault = None
        try:
            self._sum_up()
            self._rows.release_all()
            if isinstance(error, InterruptError):
                fault = self._fault()
            reason, peer_totals = fault or error, self._rows.peer_totals
            try:
                end = self._closing.record(reason, peer_totals)
            except Exception as broken:  # the figures are told nevertheless
                fault = broken if isinstance(broken, IperfpyError) else fault_of(broken)
                if reason is None or not reason.exit_status:
                    reason = fault
                end = self._closing.record_without_conclusions(reason, peer_totals)
        except Exception as broken:  # nothing can be summed up: the reason at least is told, and this raised
            sentence = str(error or fault_of(broken))
            tell_all(sinks, lambda sink: sink.error(sentence))
            raise
        # Without a report interval (-i 0) the whole test is one, as in iperf3.
        whole = end.rows if not self._plan.interval_us and any(row.local.end_us for row in end.rows) else ()
        if whole:
            tell_all(sinks, lambda sink: sink.interval(whole))
        tell_all(sinks, lambda sink: sink.end(end))
        return end, fault

    def _fault(self) -> IperfpyError | None:
        """The fault of a channel or of the transport, None if there is none."""
        try:
            self.raise_fault()
        except IperfpyError as fault:
            return fault
        return None


async def _first_of(*waits: Coroutine[Any, Any, None]) -> None:
    """Wait until one of the waits ends, and raise its error if it failed. The others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
