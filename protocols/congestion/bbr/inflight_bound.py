"""BBR.inflight_longterm: the most segments in flight without excessive loss (draft 5.5.10.2, 5.3.3.6).

The bound is lowered when a probe for bandwidth loses too much, and raised slowly while a probe does not.
"Too much" is loss above the loss floor (loss_floor.py); the draft says above 2 %. The draft's short-term
bounds do not exist here: congestion_response.py lowers the bandwidth instead.
"""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.loss_tally import LossTally

# draft 2.7

BETA = 0.7
"""BBR.Beta: factor of a decrease."""
HEADROOM = 0.15
"""BBR.Headroom: share of the bound that is left to other flows."""

# not in the draft; chosen by simulation

FIRST_GROWTH_SHARE = 32
"""The bound grows by the window divided by this in the first round of a probe. The draft begins with one
segment, and a large bound that was set by mistake would then hold for ten rounds."""


class InflightBound:
    """The long-term bound and its growth during a probe.

    Attributes
    ----------
    longterm : segments; infinite if there is no bound
    reducing_losses : the losses that last lowered the bound; None if there is no bound
    """

    def __init__(self) -> None:
        self.longterm = inf
        self.reducing_losses: LossTally | None = None
        self._growth_rounds = 0  # BBR.bw_probe_up_rounds
        self._acked = 0.0  # BBR.bw_probe_up_acks
        self._acked_per_segment = inf  # BBR.probe_up_cnt

    def with_headroom(self, needed: float) -> float:
        """BBRInflightWithHeadroom (draft 5.3.3.6), in segments, but never below the segments that the
        bandwidth needs in flight.

        Pacing below the bandwidth already leaves room for other flows in a shallow queue. On a path with a
        queue of a tenth of a BDP, or with a policer and no queue, headroom within the BDP would waste 10 %
        of the bandwidth. And where acknowledgements come in lumps, losses find a few segments in flight just
        as well as many: a bound of so few, and a smaller one after each probe, would starve the flow.
        """
        if self.longterm == inf:
            return inf
        return max(self.longterm - max(1.0, HEADROOM * self.longterm), needed)

    def lower(self, inflight: float, target: float, losses: LossTally) -> None:
        """BBRHandleInflightTooHigh (draft 5.5.10.2).

        Parameters
        ----------
        inflight : segments in flight when the lost segment was sent
        target : segments; the bound is not lowered below `BETA` times this
        losses : the losses that exceeded the loss floor
        """
        self.longterm = max(inflight, BETA * target)
        self.reducing_losses = losses

    def remove(self) -> None:
        """Remove the bound: the losses that lowered it were not caused by congestion."""
        self.longterm = inf
        self.reducing_losses = None

    def start_probe(self, window: float) -> None:
        """Reset the growth at the beginning of REFILL or UP."""
        self._growth_rounds = 0
        self._acked = 0.0
        self._raise_slope(window)

    def _raise_slope(self, window: float) -> None:
        """BBRRaiseInflightLongtermSlope: grow by 1, 2, 4, ... shares of the window per round."""
        growth = max(1.0, window / FIRST_GROWTH_SHARE) * (1 << min(self._growth_rounds, 30))
        self._growth_rounds += 1
        self._acked_per_segment = max(window / growth, 1.0)

    def grow(self, inflight: float, acked: int, window: float, limiting: bool, round_started: bool) -> None:
        """Raise the bound after an ACK without excessive loss (BBRAdaptLongTermModel).

        Parameters
        ----------
        inflight : segments in flight when the newest acknowledged segment was sent
        acked : segments newly acknowledged
        window : segments
        limiting : True if the window was used up in UP and this bound is the reason
        round_started : True if the ACK started a round
        """
        if self.longterm == inf:
            return
        self.longterm = max(self.longterm, inflight)
        if not limiting:
            return
        # BBRProbeInflightLongtermUpward: one segment for every `_acked_per_segment` acknowledged ones
        self._acked += acked
        if self._acked >= self._acked_per_segment:
            steps = int(self._acked / self._acked_per_segment)
            self._acked -= steps * self._acked_per_segment
            self.longterm += steps
        if round_started:
            self._raise_slope(window)
