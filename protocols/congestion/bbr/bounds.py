"""What losses say about how much the path takes (draft 5.5.10).

Long term: `inflight_long`, the most that was in flight without excessive loss; lowered when a probe
for bandwidth loses too much, raised slowly while one does not. Short term: `bandwidth_short` and
`inflight_short`, lowered once per round with excessive loss while not probing, forgotten at the next REFILL.
"Excessive" is above the path's noise (noise.py), where the draft says above 2 %.
"""

from __future__ import annotations

from math import inf

from protocols.congestion.bbr.noise import TOLERANCE

BETA = 0.7
HEADROOM = 0.15


class Bounds:
    def __init__(self) -> None:
        self.inflight_long = inf
        self.inflight_short = inf
        self.bandwidth_short = inf
        self._because = inf  # the loss rate that lowered inflight_long
        self._rounds_up = 0
        self._acks = 0.0
        self._acks_per_segment = inf

    @property
    def with_headroom(self) -> float:
        """BBRInflightWithHeadroom (draft 5.3.3.6)."""
        if self.inflight_long == inf:
            return inf
        return self.inflight_long - max(1.0, HEADROOM * self.inflight_long)

    def forget_short_term(self) -> None:
        """BBRResetShortTermModel."""
        self.inflight_short = self.bandwidth_short = inf

    def lower_short_term(
        self, bandwidth: float, window: float, bandwidth_latest: float, inflight_latest: float
    ) -> None:
        """BBRInitLowerBounds and BBRLossLowerBounds (draft 5.5.10.3): towards what was delivered in the
        last round, by no more than BETA at a time."""
        if self.bandwidth_short == inf:
            self.bandwidth_short, self.inflight_short = bandwidth, window
        self.bandwidth_short = max(bandwidth_latest, BETA * self.bandwidth_short)
        self.inflight_short = max(inflight_latest, BETA * self.inflight_short)

    def lower_long_term(self, inflight: float, target: float, loss_rate: float) -> None:
        """BBRHandleInflightTooHigh (draft 5.5.10.2), because `loss_rate` was seen."""
        self.inflight_long = max(inflight, BETA * target)
        self._because = loss_rate

    def reconsider(self, noise: float) -> None:
        """What was taken for congestion turned out to be the path's own loss: the bound had no reason."""
        if noise + TOLERANCE / 2 >= self._because:
            self.inflight_long = inf

    def begin_probe(self, window: float) -> None:
        """REFILL or UP begins: growth starts at one segment per round."""
        self._rounds_up = 0
        self._acks = 0.0
        self._steepen(window)

    def _steepen(self, window: float) -> None:
        """BBRRaiseInflightLongtermSlope: 1, 2, 4, ... segments per round."""
        growth = 1 << min(self._rounds_up, 30)
        self._rounds_up += 1
        self._acks_per_segment = max(window / growth, 1.0)

    def raise_long_term(self, inflight: float, acked: int, window: float, held: bool, round_: bool) -> None:
        """BBRAdaptLongTermModel's raise. `inflight`: what was in flight, without excessive loss, when the
        newest acknowledged transmission left; `held`: the window was used up, and this bound was why."""
        if self.inflight_long == inf:
            return
        self.inflight_long = max(self.inflight_long, inflight)
        if not held:
            return
        self._acks += acked
        if self._acks >= self._acks_per_segment:
            steps = int(self._acks / self._acks_per_segment)
            self._acks -= steps * self._acks_per_segment
            self.inflight_long += steps
        if round_:
            self._steepen(window)
