"""The probes of one end of a test, from which its responsiveness is computed.

poll      with each look at the counters: payload and round-trip times -> ProbeLog
foreign   at the client, towards a server that answers them -> ProbeLog
judged    with the self probes of the peer's senders -> Responsiveness
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.endpoint.foreign_probes import ForeignProbes
from iperfpy.records import Responsiveness
from iperfpy.sampling.responsiveness import ProbeLog, applies_to, assess, with_self_probes
from iperfpy.traffic.transfer import Transfer


class Probing:
    """Collects the probes of a test. A test has none if its load does not seek the capacity of the path.

    Parameters
    ----------
    foreign : makes the foreign probes of this end for a log; None: it sends none
    """

    def __init__(self, test: AgreedTest, transfer: Transfer, foreign: ForeignProbes | None) -> None:
        self._transfer = transfer
        self._applies = applies_to(test.plan, test.transport)
        self._log = foreign.log if foreign is not None else ProbeLog()
        self._foreign = foreign if self._applies else None
        self._began_us: int | None = None

    def start(self) -> None:
        """Send foreign probes, if this end has any."""
        if self._foreign is not None:
            self._foreign.start()

    def poll(self, now_us: int) -> None:
        """Take the counters that the transfer has just read."""
        transfer = self._transfer
        if not self._applies or not transfer.is_measuring:
            return
        # The omitted period (-O) ends with a new beginning, and its probes do not count.
        if self._began_us != transfer.began_us:
            self._began_us = transfer.began_us
            self._log.begin(transfer.began_us)
        self._log.read(now_us, transfer.measured_bytes, transfer.take_round_trips_us())

    def stop(self) -> None:
        """Send no more probes. May be repeated."""
        if self._foreign is not None:
            self._foreign.stop()

    async def close(self) -> None:
        """Stop, and wait until every socket of a probe is closed. Idempotent."""
        if self._foreign is not None:
            await self._foreign.close()

    @property
    def self_probes(self) -> Mapping[int, Sequence[float]]:
        """Index of an interval -> round-trip times of this end's senders in it, microseconds."""
        return {one.index: one.self_us for one in self._log.intervals if one.self_us}

    def judged(self, peers: Mapping[int, Sequence[float]]) -> Responsiveness:
        """The responsiveness of the test. `peers`: the self probes of the peer's senders."""
        return assess(with_self_probes([*self._log.intervals], peers), self._log.saturated_at)
