"""The layer of forward error correction (FEC): an encoder and a decoder of one geometry."""

from __future__ import annotations

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.fec_decoder import FecDecoder
from iperfpy.protocols.kcp.envelope.fec_encoder import FecEncoder
from iperfpy.protocols.kcp.envelope.fec_header import HEADER_BYTES, FecCounts
from iperfpy.protocols.kcp.envelope.layer import Opened
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.metrics import Value


class Fec:
    """Both directions of one stream, as kcp-go has them.

    Attributes
    ----------
    counts : of both directions
    """

    header_bytes = HEADER_BYTES

    def __init__(self, geometry: Geometry) -> None:
        self.counts = FecCounts()
        self._encoder = FecEncoder(geometry, self.counts)
        self._decoder = FecDecoder(geometry, self.counts)

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """The batches with headers, and parity among them."""
        return self._encoder.seal(batches, now_us)

    def open(self, batch: DatagramBatch, now_us: int) -> Opened:
        """The KCP datagrams of a batch, and those that were restored."""
        return self._decoder.open(batch, now_us)

    def figures(self) -> dict[str, Value]:
        """The counters by metric key."""
        counts = self.counts
        return {
            "fec_data_sent": counts.data_sent,
            "fec_parity_sent": counts.parity_sent,
            "fec_data_bytes": counts.data_bytes,
            "fec_added_bytes": counts.added_bytes,
            "fec_data_whole": counts.data_received + counts.recovered,
            "fec_recovered": counts.recovered,
            "fec_parity_received": counts.parity_received,
            "fec_parity_wasted": counts.parity_wasted,
            "fec_unusable": counts.unusable,
        }
