"""Random loss, drawn for whole batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.path import Bursts

Mask = NDArray[np.bool_]

_BLOCK = 8_192


class Uniform:
    """Uniform draws from [0, 1), generated in blocks. The sequence depends on the seed alone."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._block = rng.random(_BLOCK)
        self._at = 0

    def take(self, count: int) -> NDArray[np.float64]:
        """The next `count` draws, valid until the next call."""
        if self._at + count > _BLOCK:
            if count > _BLOCK:
                return self._rng.random(count)
            self._block = np.concatenate((self._block[self._at :], self._rng.random(_BLOCK)))[:_BLOCK]
            self._at = 0
        drawn: NDArray[np.float64] = self._block[self._at : self._at + count]
        self._at += count
        return drawn


class GilbertElliott:
    """The Markov chain of `Bursts` (Gilbert 1960, Elliott 1963).

    The length of each stay in a state is drawn at once, from a geometric distribution, so that a batch costs
    a few steps instead of one per datagram.
    """

    def __init__(self, bursts: Bursts, rng: np.random.Generator) -> None:
        self._bursts, self._rng = bursts, rng
        self._bad = bool(rng.random() < bursts.enter / (bursts.enter + bursts.leave))
        self._stay = self._draw_stay()

    def _draw_stay(self) -> int:
        step = self._bursts.leave if self._bad else self._bursts.enter
        return int(self._rng.geometric(step)) if step > 0 else 1 << 62

    def take(self, count: int) -> Mask:
        """(count,) bool: True for each of the next `count` datagrams that is lost."""
        lost = np.zeros(count, np.bool_)
        at = 0
        while at < count:
            span = min(self._stay, count - at)
            share = self._bursts.bad if self._bad else self._bursts.good
            if share >= 1.0:
                lost[at : at + span] = True
            elif share > 0.0:
                lost[at : at + span] = self._rng.random(span) < share
            at += span
            self._stay -= span
            if not self._stay:
                self._bad = not self._bad
                self._stay = self._draw_stay()
        return lost
