"""UDP as iperf3 measures it: numbered, stamped datagrams without acknowledgements.

    association.py   the two sockets of a stream find each other
    udp_end.py       one end of a stream: its socket, and the association
    channel.py       one stream: a thread that sends (sender.py) or receives (reader.py)
    packets.py       iperf3's headers, written and read in batches
    reception.py     loss, order and jitter at the receiver
    echo.py          round-trip times, with iperfpy at both ends
    message_channel.py  a stream that goes both ways, each block a datagram

This module only declares; numpy and sockets come with the first stream. Batches, sockets with offload and the
server's port are in protocols/datagrams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iperfpy.protocols.contract import (
    Channel,
    ClientPort,
    Delivery,
    Iperf3Mapping,
    ServerPort,
    Stream,
    Transport,
)
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit
from iperfpy.protocols.settings import Settings, option

DEFAULT_BLOCK_BYTES = 1400
"""Fits an Ethernet frame over IPv4 and IPv6, with room for a tunnel's header."""
LONGEST_BLOCK_BYTES = 65_507
_BATCH_BYTES = 65_507


@dataclass(frozen=True, slots=True)
class UdpSettings(Settings):
    """The user's choices for UDP streams; wire keys are iperf3's."""

    window: int | None = option(
        None,
        help="send and receive socket buffer",
        flags=("-w", "--window"),
        minimum=1,
        maximum=512 * 1024 * 1024,
        unit="bytes",
    )
    wide_counters: bool = option(
        False,
        help="64-bit sequence numbers",
        flags=("--udp-counters-64bit",),
        wire="udp_counters_64bit",
        wire_as_number=True,
    )
    gsro: bool = option(False, help="ask an iperf3 server for GSO and GRO, too", flags=("--gsro",))
    dont_fragment: bool = option(
        False,
        help="forbid IP fragmentation: -l above the path MTU is an error",
        flags=("--dont-fragment",),
        wire_as_number=True,
    )
    repeating_payload: bool = option(
        False, help="send 0123456789, not random bytes", flags=("--repeating-payload",), wire_as_number=True
    )
    no_rtt: bool = option(
        False, help="measure no round-trip time: no echoes among the data", flags=("--no-rtt",)
    )

    echoes: int = option(10, help="echoes per second, for the round-trip time", minimum=1, maximum=1000)

    @property
    def header_bytes(self) -> int:
        return 16 if self.wide_counters else 12


_RECEIVER, _GAUGE = Side.RECEIVER, Kind.GAUGE


class Udp(Transport):
    """iperf3's UDP test."""

    name = "udp"
    summary = "UDP datagrams at a rate: loss, jitter, order"
    prefix = "udp"
    settings = UdpSettings
    iperf3 = Iperf3Mapping("udp", merged_as="udp", socket_buffer="window", offload="gsro")
    flags = ("-u", "--udp")
    reliable = False
    both_ways = True
    over_udp = True
    delivery = Delivery(
        "datagrams",
        sent="datagrams_sent",
        known="datagrams_numbered",
        missing="lost_datagrams",
        received="datagrams_received",
        repeated="duplicate_datagrams",
    )
    datagrams = True
    rate_bps = 1024 * 1024
    block_limits = (16, LONGEST_BLOCK_BYTES)
    blocks_per_take = 128
    metrics = (
        Metric("datagrams_sent", "Datagrams handed to the network", title="Sent", iperf3="packets"),
        Metric(
            "rtt_us",
            "Round-trip time of the latest echo, with iperfpy at both ends",
            Unit.MICROSECONDS,
            _GAUGE,
            title="RTT",
            priority=3,
            spread=True,
        ),
        Metric(
            "jitter_us",
            "Smoothed variation of the transit time (RFC 1889, A.8)",
            Unit.MICROSECONDS,
            _GAUGE,
            _RECEIVER,
            title="Jitter",
            priority=4,
            iperf3="jitter_ms",
            iperf3_scale=1e-3,
        ),
        Metric(
            "lost_datagrams",
            "Datagrams that did not arrive: numbers skipped, less those that came late; in the summary also "
            "those sent after the last arrival",
            side=_RECEIVER,
            title="Lost",
            priority=2,
            iperf3="lost_packets",
        ),
        Metric(
            "datagrams_numbered",
            "Datagrams sent, as far as the receiver knows: growth of the highest number seen; in the summary "
            "by the counters of both ends",
            side=_RECEIVER,
            title="Total",
            priority=1,
            iperf3="packets",
        ),
        Metric(
            "loss_percent",
            "Lost datagrams, as a share of those sent, as far as the receiver knows; in the summary by the "
            "counters of both ends",
            Unit.PERCENT,
            Kind.RATIO,
            _RECEIVER,
            title="Lost(%)",
            priority=5,
            numerator="lost_datagrams",
            denominator="datagrams_numbered",
            iperf3="lost_percent",
            meaning=Meaning.PATH_LOSS,
        ),
        Metric(
            "late_datagrams",
            "Datagrams that came after one with a higher number",
            side=_RECEIVER,
            iperf3="out_of_order",
        ),
        Metric("duplicate_datagrams", "Datagrams that came again", side=_RECEIVER),
        Metric("datagrams_received", "Datagrams that came, duplicates included", side=_RECEIVER),
        Metric("filtered_datagrams", "Datagrams sent, and dropped by a packet filter of this machine"),
        Metric(
            "path_loss_percent",
            "Datagrams that did not arrive, as a share of those sent, by the counters of both ends",
            Unit.PERCENT,
            Kind.MISSING,
            numerator="datagrams_received",
            denominator="datagrams_sent",
            repeated="duplicate_datagrams",
            meaning=Meaning.PATH_LOSS,
        ),
    )

    def block_bytes(self, settings: Settings) -> int:
        return DEFAULT_BLOCK_BYTES

    def iperf3_parameters(self, settings: Settings, block_bytes: int) -> dict[str, Any]:
        wire = settings.to_wire()
        for key in ("no_rtt", "echoes"):  # only iperfpy answers echoes, and it reads its own settings
            wire.pop(key, None)
        if wire.pop("gsro", False):
            batch_bytes = _BATCH_BYTES // block_bytes * block_bytes
            wire |= {"gso": 1, "gso_dg_size": block_bytes, "gso_bf_size": batch_bytes}
            wire |= {"gro": 1, "gro_bf_size": _BATCH_BYTES}
        return wire

    def iperf3_settings(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        # A client of iperf3 3.21 or later always sends both numbers, and 1 only with --gsro.
        asked = any(parameters.get(key) == 1 for key in ("gso", "gro"))
        return {**parameters, "gsro": True} if asked else parameters

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from iperfpy.protocols.udp import channel, message_channel, udp_end

        make = message_channel.UdpMessageChannel if stream.both_ways else channel.UdpChannel
        return await udp_end.connect(stream, own(settings), port, make)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from iperfpy.protocols.udp import channel, message_channel, udp_end

        make = message_channel.UdpMessageChannel if stream.both_ways else channel.UdpChannel
        return await udp_end.accept(stream, own(settings), port, make)


def own(settings: Settings) -> UdpSettings:
    """`settings` as `UdpSettings`. Raises `SettingsError` for those of another transport."""
    if not isinstance(settings, UdpSettings):
        raise SettingsError(f"UDP needs UdpSettings, not {type(settings).__name__}")
    return settings
