"""A network path in virtual time, for developers of transports and of congestion controls.

A `Simulation` joins two endpoints without clocks or sockets (`Endpoint`) by a `Path` in each direction.
Thirty seconds of a 100 Mb/s path take a few seconds, and the same seed gives the same run.

    simulation = Simulation(seed=1)
    there = simulation.link(Path(rate_bits_per_s=20e6, buffer_bytes=64_000, delay_us=85_000, loss=0.01))
    back = simulation.link(Path(delay_us=85_000))
    flow = simulation.flow(sender, receiver, there, back, Bulk(sender))
    simulation.run(until_us=30_000_000)
    print(flow.forward.truth)           # counts of datagrams delivered, and dropped by cause

Several flows may share a link. `link.py` draws the stages that a datagram passes in one direction; `inbox.py`
groups arrivals as the interrupt moderation of a network card does. docs/simulator.md is the guide.
"""

from iperfpy.protocols.simulator.application import Application, Bulk, Paced, Silent
from iperfpy.protocols.simulator.link import Link
from iperfpy.protocols.simulator.path import (
    Bursts,
    Change,
    CoDel,
    Lumps,
    Path,
    RateWalk,
    SecondWay,
    bdp_bytes,
    wire_bytes,
)
from iperfpy.protocols.simulator.rate_trace import RateTrace
from iperfpy.protocols.simulator.simulation import Endpoint, Host, Port, SimulatedFlow, Simulation
from iperfpy.protocols.simulator.truth import Truth

__all__ = [
    "Application",
    "Bulk",
    "Bursts",
    "Change",
    "CoDel",
    "Endpoint",
    "Host",
    "Link",
    "Lumps",
    "Paced",
    "Path",
    "Port",
    "RateTrace",
    "RateWalk",
    "SecondWay",
    "Silent",
    "SimulatedFlow",
    "Simulation",
    "Truth",
    "bdp_bytes",
    "wire_bytes",
]
