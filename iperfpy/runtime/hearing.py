"""Tells when a peer was heard last, and how long its silence may last once the test is over.

While data flows, a silence is rows of zeros (`Sign.SILENCE` in protocols/path_events.py). After the planned
end the results are awaited as long as anything arrives, on any socket of the test, and for `quiet_s` after
the last arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iperfpy.protocols.clock import now_us


class Hearing:
    """The silence of one peer.

    Parameters
    ----------
    peer : name of the other end in sentences, "the server"
    heard_us : gives the time at which anything of the peer last arrived; None: nothing has
    began_us : gives the time from which reports count
    signs : gives the errors that the network reported later than a time, one clause each
    """

    def __init__(
        self,
        peer: str,
        heard_us: Callable[[], int | None],
        began_us: Callable[[], int],
        signs: Callable[[int], Sequence[str]],
    ) -> None:
        self._peer = peer
        self._heard_us = heard_us
        self._began_us = began_us
        self._signs = signs

    def last_us(self) -> int:
        """Time of the last arrival; the beginning of the test if nothing has come since."""
        return max(self._heard_us() or 0, self._began_us())

    def sentence(self) -> str:
        """Since when nothing has come, and the errors that the network has reported meanwhile."""
        last_us, began_us = self.last_us(), self._began_us()
        into_s = (last_us - began_us) / 1e6
        since = f"{into_s:.1f} s into the test" if into_s > 0 else "the test began"
        return "; ".join((f"nothing has come from {self._peer} since {since}", *self._signs(last_us)))


@dataclass(frozen=True, slots=True)
class Patience:
    """The limit of a wait for the peer after the planned end, which arrivals extend.

    Parameters
    ----------
    end_us : the planned end
    quiet_s : longest silence after it
    longest_s : longest wait after it, however much arrives
    """

    hearing: Hearing
    end_us: int
    quiet_s: float
    longest_s: float

    def left_s(self) -> float:
        """Seconds that are left of the wait, as far as it is known now; 0 or less: it is over."""
        quiet_until_us = max(self.end_us, self.hearing.last_us()) + self.quiet_s * 1e6
        return (min(quiet_until_us, self.end_us + self.longest_s * 1e6) - now_us()) / 1e6

    def sentence(self, awaited: str) -> str:
        """The reason for the end of the wait. `awaited`: peer and omission, "the server did not send ..."."""
        silent_us = now_us() - max(self.end_us, self.hearing.last_us())
        if silent_us >= self.quiet_s * 1e6:
            return self.hearing.sentence()
        return f"{awaited} within {self.longest_s:g} s after the test, although something still arrives"
