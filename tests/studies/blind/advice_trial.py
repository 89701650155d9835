"""The advice put to the proof: stock KCP with the settings at hand, then the recommended settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iperfpy.diagnosis.advice import Recommendation
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.simulator.application import Bulk, Paced
from iperfpy.protocols.simulator.simulation import Simulation
from tests.studies.blind.drawing import BlindPath

SECOND = 1_000_000
SECONDS, RTTS = 6.0, 20.0
COUNTED = 0.6
"""Share of the time that counts, at the end: a start is no property of the settings."""
AS_GOOD, WITHIN = 0.97, 0.10


@dataclass(frozen=True, slots=True)
class Trial:
    """Payload rates before and with the advice, bits per second, and the factor that was promised.

    changes : False if the advice is to leave the settings, because no better rate is known
    """

    before: float
    advised: float
    promise: float | None
    changes: bool = True

    @property
    def as_good(self) -> bool:
        """True if the advice did no harm, but for chance."""
        return self.advised >= AS_GOOD * self.before

    @property
    def kept(self) -> bool:
        """True if the promise was kept, within a tenth."""
        return self.promise is None or self.advised >= (1 - WITHIN) * self.promise * self.before


def put_to_proof(path: BlindPath, advice: Recommendation) -> Trial:
    """Measure both on the path."""
    usual = KcpSettings()
    mtu = min(1_400, path.there.get("maxlen") or 1_400)
    windows = path.send_window or usual.sndwnd, path.receive_window or usual.rcvwnd
    plain = KcpSettings(mtu=mtu, sndwnd=windows[0], rcvwnd=windows[1])
    before = _rate(path, lambda number: stock(number, plain))
    if not advice.improves(before):
        return Trial(before, before, None, changes=False)
    better = KcpBbrSettings(mtu=advice.datagram_bytes, sndwnd=advice.window, rcvwnd=advice.window)
    advised = _rate(path, lambda number: with_bbr(number, better))
    # An application that sends less than the path carries gains nothing.
    return Trial(before, advised, None if path.application else advice.promise(before))


def _rate(path: BlindPath, make: Callable[[int], Engine]) -> float:
    """Payload bits per second in the last part of a flow of bulk data, or of the path's application."""
    seconds = SECONDS + RTTS * path.rtt_us / 1e6
    simulation = Simulation(path.seed)
    sender, receiver = make(path.seed), make(path.seed)
    there, back = simulation.link(path.forward), simulation.link(path.backward)
    source = Paced(sender, path.application) if path.application else Bulk(sender)
    simulation.flow(sender, receiver, there, back, source)

    def arrived() -> int:
        """Payload that arrived, in order or not yet: a gap that closes is no rate."""
        receiving = receiver.receiving
        return receiving.bytes + receiving.stored * receiver.sending.mss

    simulation.run(int((1 - COUNTED) * seconds * SECOND))
    first = arrived()
    simulation.run(int(seconds * SECOND))
    return (arrived() - first) * 8 / (COUNTED * seconds)
