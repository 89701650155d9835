"""BBR's mechanisms beyond the draft, each with a switch that removes it for one simulation.

    with without("caps"):
        run(case, seed)

A switch replaces constants and methods at run time and restores them afterwards; the program itself has no
such switches. Each puts the rule of draft-ietf-ccwg-bbr-05 in the place of ours or, if the draft has no such
rule, nothing. The tests run every switch once, so a switch that no longer reaches its method fails there.

Some mechanisms need others: without `floor` the carried rate equals the delivered rate, and without `refute`
there are no reductions to undo, no sum over CRUISE and no ceiling. `underdrive` leaves PROBE_RTT without the
answers that `examine` asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from iperfpy.protocols.congestion.bbr import (
    ack_aggregation,
    bbr,
    congestion_response,
    control_parameters,
    inflight_bound,
    loss_floor,
    loss_scatter,
    max_bandwidth,
    path_delay,
    probe_rtt,
    probe_wait,
    recent_losses,
    startup_queue,
)
from iperfpy.protocols.congestion.bbr.inflight_bound import BETA, HEADROOM
from iperfpy.protocols.congestion.bbr.loss_tally import LossTally
from iperfpy.protocols.congestion.bbr.path_delay import DelaySamples, PathDelay
from iperfpy.protocols.congestion.bbr.phases import PHASES, Phase
from iperfpy.protocols.congestion.congestion_control import Ack

_NEVER = 1 << 30


class Patch:
    """Replaces attributes and table entries, and remembers the old ones."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, owner: Any, name: str, value: object) -> None:
        """Replace a constant of a module or a method of a class.

        Raises
        ------
        KeyError : the owner has no such name
        """
        old = vars(owner)[name]
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, old))

    def gains(self, phase: Phase, **gains: float) -> None:
        """Replace gains of a phase."""
        old = PHASES[phase]
        PHASES[phase] = replace(old, **gains)  # type: ignore[arg-type]
        self._undo.append(lambda: PHASES.__setitem__(phase, old))

    def restore(self) -> None:
        """Put all old values back, the last one first."""
        while self._undo:
            self._undo.pop()()


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A mechanism beyond the draft.

    `instead` : the rule that applies while the mechanism is off
    """

    name: str
    instead: str
    switch_off: Callable[[Patch], None]


def _nothing(*_: object, **__: object) -> None:
    """Stand in for a method that returns nothing."""


def _without_floor(method: Callable[..., None]) -> Callable[..., None]:
    """Wrap a method of `Bbr` or `ControlParameters`: it sees a loss floor of zero."""

    def call(self: Any, *arguments: Any) -> None:
        floor = self.loss_floor if isinstance(self, bbr.Bbr) else self._loss_floor
        estimate, floor.estimate = floor.estimate, 0.0
        try:
            method(self, *arguments)
        finally:
            floor.estimate = estimate

    return call


def _carried(patch: Patch) -> None:
    """Take delivery rates as bandwidth.

    They already lack the path's own loss. `Bbr` subtracts it from the bandwidth for the estimator of
    aggregation, so that estimator gets the bandwidth as it is.
    """
    controller, update = bbr.Bbr, ack_aggregation.AckAggregation.update
    on_ack = controller.on_ack
    current: list[bbr.Bbr] = []

    # `AckAggregation` does not know its controller, so the controller of the ACK is remembered.
    def remember(self: bbr.Bbr, ack: Ack) -> None:
        current[:] = [self]
        on_ack(self, ack)

    def whole(self: ack_aggregation.AckAggregation, ack: Ack, _: float, *rest: Any) -> None:
        update(self, ack, current[0].max_bandwidth.value, *rest)

    in_probe_rtt = probe_rtt.ProbeRtt.on_ack

    def delivered(
        self: probe_rtt.ProbeRtt, ack: Ack, delay: PathDelay, _: float, *, round_started: bool
    ) -> float:
        return in_probe_rtt(self, ack, delay, 0.0, round_started=round_started)

    parameters = control_parameters.ControlParameters
    patch.put(controller, "_update_bandwidth", _without_floor(controller._update_bandwidth))
    patch.put(controller, "_watch_queue", _without_floor(controller._watch_queue))
    patch.put(probe_rtt.ProbeRtt, "on_ack", delivered)
    patch.put(parameters, "_set_window", _without_floor(parameters._set_window))
    patch.put(controller, "on_ack", remember)
    patch.put(ack_aggregation.AckAggregation, "update", whole)


def _floor(patch: Patch) -> None:
    patch.put(loss_floor.LossFloor, "update", lambda self, now_us, drain_seen: 0.0)


def _doubt(patch: Patch) -> None:
    patch.put(loss_floor, "IGNORED_ERRORS", inf)
    patch.put(loss_floor, "IGNORED_ERRORS_DRAINED", inf)


def _caps(patch: Patch) -> None:
    for name in ("MAX_FLOOR_NO_DRAIN", "MAX_FLOOR_LIMITED", "MAX_FLOOR_SUPPORTED"):
        patch.put(loss_floor, name, loss_floor.MAX_FLOOR)


def _burstiness(patch: Patch) -> None:
    patch.put(loss_scatter.LossScatter, "add", _nothing)


def _refute(patch: Patch) -> None:
    """Bound the bandwidth instead of lowering the estimate, as BBR.bw_shortterm does (5.5.10.3).

    REFILL removes the bound (BBRResetShortTermModel), and the filter is trusted again.
    """
    model, response = max_bandwidth.MaxBandwidth, congestion_response.CongestionResponse
    sample, advance, start_probe = model.sample, model.advance, response.start_probe

    # The bound lives in the dict of the instance, since the class has no attribute for it.
    def bounded(self: max_bandwidth.MaxBandwidth) -> None:
        self.value = min(self._filter.value, vars(self).get("short_term", inf))

    def bounded_sample(self: max_bandwidth.MaxBandwidth, rate: float, stamp_us: int, now_us: int) -> bool:
        lower = sample(self, rate, stamp_us, now_us)
        bounded(self)
        return lower

    def bounded_advance(self: max_bandwidth.MaxBandwidth) -> None:
        advance(self)
        bounded(self)

    def bound(self: max_bandwidth.MaxBandwidth, rate: float, now_us: int) -> bool:
        if not 0.0 < rate < self.value:
            return False
        vars(self)["short_term"] = rate
        bounded(self)
        return True

    def unbound(self: max_bandwidth.MaxBandwidth) -> None:
        vars(self).pop("short_term", None)
        bounded(self)

    def lower(self: congestion_response.CongestionResponse, recent: LossTally, now_us: int) -> None:
        model = self._max_bandwidth
        model.reduce(max(model.latest_best, BETA * model.value), now_us)

    def reset(self: congestion_response.CongestionResponse) -> None:
        unbound(self._max_bandwidth)
        start_probe(self)

    patch.put(model, "sample", bounded_sample)
    patch.put(model, "advance", bounded_advance)
    patch.put(model, "reduce", bound)
    patch.put(model, "restore", unbound)
    patch.put(response, "start_probe", reset)
    patch.put(response, "reduce_bandwidth", lower)
    patch.put(response, "reduce_by_excess", lower)
    patch.put(response, "reduce_after_probe", _nothing)
    patch.put(response, "cruise_excess", _nothing)


def _cruise(patch: Patch) -> None:
    patch.put(congestion_response.CongestionResponse, "cruise_excess", _nothing)


def _ceiling(patch: Patch) -> None:
    """Let UP grow without a limit. The longer wait between probes behind a policer goes with the ceiling."""
    patch.put(congestion_response, "UNPROVEN_FACTOR", inf)
    patch.put(congestion_response.CongestionResponse, "policed", property(lambda self: False))


def _blocks(patch: Patch) -> None:
    """Count all blocks, the worst and the best too."""
    since = recent_losses.RecentLosses.since

    def everything(self: recent_losses.RecentLosses, start_us: int) -> LossTally | None:
        if since(self, start_us) is None:  # too few blocks; the call also drops the old ones
            return None
        total = LossTally()
        for _, block in self._blocks:
            total.add(block)
        return total

    patch.put(recent_losses.RecentLosses, "since", everything)


def _runs(patch: Patch) -> None:
    def congestive(self: congestion_response.CongestionResponse, tally: LossTally, tolerance: float) -> bool:
        return self._loss_floor.excessive(tally.lost, tally.sent, tolerance)

    patch.put(congestion_response.CongestionResponse, "_congestive", congestive)


def _level(patch: Patch) -> None:
    """Take the least sample for the path's round-trip time, and the least one of each PROBE_RTT anew."""
    delay = path_delay.PathDelay
    set_level, end_probe = delay._set_level, delay.end_probe

    def least(self: PathDelay) -> None:
        set_level(self)
        self.level_us, self.spread_us = self.least_us, 0.0

    def end_at_least(
        self: PathDelay, measured: DelaySamples, now_us: int, *, lasted_us: int, settled: bool
    ) -> bool:
        own_queue = end_probe(self, measured, now_us, lasted_us=lasted_us, settled=settled)
        if settled and measured.least_us < inf:
            self.least_us = measured.least_us
            least(self)
        return own_queue

    patch.put(delay, "_set_level", least)
    patch.put(delay, "end_probe", end_at_least)


def _underdrive(patch: Patch) -> None:
    """Keep half a BDP in flight for 200 ms and a round, by the clock only (draft 5.3.4)."""

    def hold(self: probe_rtt.ProbeRtt, ack: Ack, delay: PathDelay, _: float, *, round_started: bool) -> float:
        self._rounds += round_started
        if self._rounds < 2:  # the segments of the first round left before PROBE_RTT
            self._round_us = ack.now_us
            return 0.0
        if ack.rtt_mean_us is not None:
            self.measured.add(ack.rtt_mean_us, ack.rtt_samples)
        if ack.flight is not None and ack.flight.stamp_us > self._since_us:
            self.losses.sent += ack.acked
        held_us = ack.now_us - self._round_us
        self.settled = self.over = self._rounds > 2 and held_us > probe_rtt.PROBE_RTT_DURATION_US
        return 0.0

    patch.gains(Phase.PROBE_RTT, pacing_gain=1.0, window_gain=0.5)
    patch.put(probe_rtt, "_PACING_GAIN", 1.0)
    patch.put(probe_rtt.ProbeRtt, "on_ack", hold)
    patch.put(path_delay.PathDelay, "raised", lambda self, now_us: False)


def _examine(patch: Patch) -> None:
    def answer(self: bbr.Bbr, losses: LossTally, now_us: int) -> None:
        if self.phase is not Phase.PROBE_RTT:
            self.response.reduce_bandwidth(losses, now_us)

    patch.put(bbr.Bbr, "_answer", answer)


def _standing(patch: Patch) -> None:
    patch.put(bbr.Bbr, "_watch_queue", _nothing)


def _bursts_small(patch: Patch) -> None:
    """Never cut bursts. Losses at the end of a probe then lower the inflight bound, whatever the burst."""
    patch.put(control_parameters.ControlParameters, "cut_burst", lambda self, lost_burst: False)
    patch.put(bbr, "SMALL_BURST", _NEVER)


def _sharing(patch: Patch) -> None:
    def constant(self: control_parameters.ControlParameters, phase: Phase, bdp: float) -> float:
        return self._probe_rtt.pacing_gain if phase is Phase.PROBE_RTT else PHASES[phase].pacing_gain

    patch.put(control_parameters.ControlParameters, "_pacing_gain", constant)


def _down(patch: Patch) -> None:
    patch.gains(Phase.DOWN, pacing_gain=0.90)


def _startup_window(patch: Patch) -> None:
    patch.gains(Phase.STARTUP, window_gain=2.0)


def _startup_queue(patch: Patch) -> None:
    patch.put(path_delay.PathDelay, "queue_fills", property(lambda self: False))


def _startup_hold(patch: Patch) -> None:
    patch.put(startup_queue.StartupQueue, "update", lambda *_: False)


def _first_probe(patch: Patch) -> None:
    begin = probe_wait.ProbeWait.__init__

    def begun(self: probe_wait.ProbeWait, seed: int) -> None:
        begin(self, seed)
        self._probed_before = True

    patch.put(probe_wait.ProbeWait, "__init__", begun)
    patch.put(probe_wait.ProbeWait, "hasten", _nothing)


def _bound_raise(patch: Patch) -> None:
    patch.put(inflight_bound, "FIRST_GROWTH_SHARE", _NEVER)


def _headroom(patch: Patch) -> None:
    def draft(self: inflight_bound.InflightBound, bdp: float) -> float:
        if self.longterm == inf:
            return inf
        return self.longterm - max(1.0, HEADROOM * self.longterm)

    patch.put(inflight_bound.InflightBound, "with_headroom", draft)


MECHANISMS: dict[str, Mechanism] = {
    "carried": Mechanism("carried rate as bandwidth", "the delivery rate", _carried),
    "floor": Mechanism("loss floor", "a tolerance of 2 % for all loss", _floor),
    "doubt": Mechanism("weight of losses at capacity", "they count like losses below it", _doubt),
    "caps": Mechanism("caps on an unproven loss floor", "one cap of 60 %", _caps),
    "burstiness": Mechanism("scatter in the tolerance", "losses scatter as independent ones", _burstiness),
    "refute": Mechanism("reductions of the bandwidth", "a short-term bound until REFILL", _refute),
    "cruise": Mechanism("sum of losses over CRUISE", "only the last two rounds count", _cruise),
    "ceiling": Mechanism("ceiling behind a policer", "no limit on UP, the usual wait", _ceiling),
    "blocks": Mechanism("bursts left out by blocks", "every block counts", _blocks),
    "runs": Mechanism("bursts left out by run length", "long runs count", _runs),
    "level": Mechanism("mean round-trip time as level", "the least sample", _level),
    "underdrive": Mechanism("PROBE_RTT at half the pace", "half a BDP for 200 ms, by the clock", _underdrive),
    "examine": Mechanism("examination of losses", "they lower the bandwidth at once", _examine),
    "standing": Mechanism("rate carried behind a queue", "the bandwidth filter alone", _standing),
    "bursts-small": Mechanism("smaller bursts after losses", "bursts stay as they are", _bursts_small),
    "sharing": Mechanism("gains that follow the queue", "constant gains, 1.0 and 1.25", _sharing),
    "down": Mechanism("DOWN at 0.75", "0.90", _down),
    "startup-window": Mechanism("window gain 2.77 in STARTUP", "2.0", _startup_window),
    "startup-queue": Mechanism("STARTUP ends on a filling queue", "three flat rounds", _startup_queue),
    "startup-hold": Mechanism("pace held at the first queue of STARTUP", "it only rises", _startup_hold),
    "first-probe": Mechanism("early first probe", "the usual wait of 2 to 3 s", _first_probe),
    "bound-raise": Mechanism("bound grows by shares of the window", "1, 2, 4 segments a round", _bound_raise),
    "headroom": Mechanism("headroom never below the BDP", "0.15 of the bound always", _headroom),
}
"""Key -> mechanism. The keys are the values of `--without` and the `without` of the record."""


@contextmanager
def without(key: str) -> Iterator[None]:
    """Switch a mechanism off for all controllers made and used within; an empty key switches nothing."""
    patch = Patch()
    try:
        if key:
            MECHANISMS[key].switch_off(patch)
        yield
    finally:
        patch.restore()
