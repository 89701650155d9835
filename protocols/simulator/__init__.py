"""A path in virtual time, for anyone who develops a transport.

Two endpoints without clocks or sockets (`Endpoint`), a `Path` for each direction and a seed make a
`Simulation`; thirty seconds of a 100 Mb/s path take a few, and the same seed gives the same run.

    simulation = Simulation(seed=1)
    there = simulation.link(Path(rate_bits_per_s=20e6, buffer_bytes=64_000, delay_us=85_000, loss=0.01))
    back = simulation.link(Path(delay_us=85_000))
    flow = simulation.flow(sender, receiver, there, back, Bulk(sender))
    simulation.run(until_us=30_000_000)
    print(flow.forward.truth)           # every datagram: delivered, or dropped and why

Several flows may share a link. What a datagram goes through, each way, is drawn in `link.py`; how
arrivals are grouped, as a network card's interrupt moderation groups them, in `inbox.py`.
"""

from iperfpy.protocols.simulator.application import Application, Bulk, Paced, Silent
from iperfpy.protocols.simulator.link import Link
from iperfpy.protocols.simulator.path import Bursts, Change, Path, bdp_bytes, wire_bytes
from iperfpy.protocols.simulator.simulation import Endpoint, Flow, Host, Port, Simulation
from iperfpy.protocols.simulator.truth import Truth

__all__ = [
    "Application",
    "Bulk",
    "Bursts",
    "Change",
    "Endpoint",
    "Flow",
    "Host",
    "Link",
    "Paced",
    "Path",
    "Port",
    "Silent",
    "Simulation",
    "Truth",
    "bdp_bytes",
    "wire_bytes",
]
