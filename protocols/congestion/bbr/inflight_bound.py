"""What losses say about how much the path takes (draft 5.5.10).

`inflight_long`, the most that was in flight without excessive loss: lowered when a probe for bandwidth loses
too much, raised slowly while one does not. "Excessive" is above the path's noise (noise.py), where the draft
says above 2 %. The draft's short-term bounds are not here: see judge.py.
"""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.loss_tally import Tally

BETA = 0.7
HEADROOM = 0.15
FIRST_SHARE = 32


class InflightBound:
    def __init__(self) -> None:
        self.inflight_long = inf
        self.because: Tally | None = None
        """The losses that last lowered `inflight_long`."""
        self._rounds_up = 0
        self._acks = 0.0
        self._acks_per_segment = inf

    def with_headroom(self, bdp: float) -> float:
        """BBRInflightWithHeadroom (draft 5.3.3.6), but never below the BDP: what leaves room for others in a
        shallow queue is pacing below the bandwidth. Without that, a queue of a tenth of a BDP (or none,
        a policer) costs 10 % of the bandwidth for nothing."""
        if self.inflight_long == inf:
            return inf
        less = self.inflight_long - max(1.0, HEADROOM * self.inflight_long)
        return max(less, min(self.inflight_long, bdp))

    def lower_long_term(self, inflight: float, target: float, because: Tally) -> None:
        """BBRHandleInflightTooHigh (draft 5.5.10.2), because of these losses."""
        self.inflight_long = max(inflight, BETA * target)
        self.because = because

    def forget_long_term(self) -> None:
        """What was taken for congestion turned out to be the path's own loss: the bound had no reason."""
        self.inflight_long = inf
        self.because = None

    def begin_probe(self, window: float) -> None:
        """REFILL or UP begins: growth starts at one segment per round."""
        self._rounds_up = 0
        self._acks = 0.0
        self._steepen(window)

    def _steepen(self, window: float) -> None:
        """BBRRaiseInflightLongtermSlope: 1, 2, 4, ... shares of the window per round, where the draft has
        segments: a bound set by mistake must not take ten rounds to be felt."""
        growth = max(1.0, window / FIRST_SHARE) * (1 << min(self._rounds_up, 30))
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
