"""The layer of forward error correction (FEC): an encoder and a decoder, of a fixed geometry or of one that
follows the path."""

from __future__ import annotations

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.fec_control import FecControl, Flow
from iperfpy.protocols.kcp.envelope.fec_decoder import FecDecoder
from iperfpy.protocols.kcp.envelope.fec_encoder import FecEncoder
from iperfpy.protocols.kcp.envelope.fec_header import HEADER_BYTES, FecCounts
from iperfpy.protocols.kcp.envelope.fec_numbers import SelfDescribing
from iperfpy.protocols.kcp.envelope.fec_reports import Arrivals, SentLog
from iperfpy.protocols.kcp.envelope.layer import Opened, batch_of
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.metrics import Value


class Fec:
    """Both directions of one stream, as kcp-go has them.

    Parameters
    ----------
    follows : see `FecDecoder`

    Attributes
    ----------
    counts : of both directions
    geometry : of the user's setting; None: the peer's datagrams tell theirs
    """

    geometry: Geometry | None
    header_bytes = HEADER_BYTES

    def __init__(self, geometry: Geometry, *, follows: bool = False) -> None:
        self.counts, self.geometry = FecCounts(), geometry
        self._encoder = FecEncoder(geometry, self.counts)
        self._decoder = FecDecoder(geometry, self.counts, follows=follows)

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """The batches with headers, and parity among them."""
        return self._encoder.seal(batches, now_us)

    def open(self, batch: DatagramBatch, now_us: int) -> Opened:
        """The KCP datagrams of a batch, and those that were restored."""
        return self._decoder.open(batch, now_us)

    @property
    def found(self) -> Geometry | None:
        """The geometry of a peer that contradicts `geometry`, once it is found; else None."""
        return self._decoder.found

    def figures(self) -> dict[str, Value]:
        """The counters by metric key."""
        counts, geometry = self.counts, self._encoder.wanted
        return {
            "fec_data_sent": counts.data_sent,
            "fec_parity_sent": counts.parity_sent,
            "fec_data_bytes": counts.data_bytes,
            "fec_added_bytes": counts.added_bytes,
            "fec_added_datagrams": round(counts.added_datagrams),
            "fec_geometry": f"{geometry.data}:{geometry.parity}" if geometry.parity else "off",
            "fec_data_whole": counts.data_received + counts.recovered,
            "fec_recovered": counts.recovered,
            "fec_lost": (lost := self._decoder.lost),
            "fec_data_expected": counts.data_received + counts.recovered + lost,
            "fec_parity_received": counts.parity_received,
            "fec_parity_wasted": counts.parity_wasted,
            "fec_unusable": counts.unusable,
        }


class AdaptiveFec(Fec):
    """Forward error correction that follows the loss of the path, and the stream (`FecControl`).

    Parameters
    ----------
    frame : the sets of a peer that follows no others. They are sent with less parity than they have, or none:
        to the peer it is lost. The loss is known from acknowledgements. None: the peer is an iperfpy that
        follows any sets, and sends reports
    follows : see `FecDecoder`; of no effect without `frame`
    """

    def __init__(self, frame: Geometry | None = None, *, follows: bool = False) -> None:
        self.counts, self.geometry = FecCounts(), frame
        self._frame, self._control = frame, FecControl(frame)
        numbers = SelfDescribing()
        self._arrivals, self._log = Arrivals(numbers), SentLog(numbers)
        if frame is None:
            first = self._control.geometry
            self._encoder = FecEncoder(first, self.counts, 0, numbers, self._log)
            self._decoder = FecDecoder(first, self.counts, numbers, self._arrivals)
        else:
            self._encoder = FecEncoder(frame, self.counts)
            self._decoder = FecDecoder(frame, self.counts, follows=follows)
            self._encoder.wanted = self._control.geometry
        self._flow = Flow(0.0, 0, 0, 0, 0, 0)

    def is_due(self, now_us: int) -> bool:
        """True if it is time to call `steer`."""
        return self._control.is_due(now_us)

    def steer(self, flow: Flow, now_us: int) -> None:
        """Take the engine's knowledge of the stream, and decide on the geometry of the next sets."""
        if self._frame is not None:
            self._take_acknowledged(flow)
        self._control.steer(flow, self.counts.data_sent, now_us)
        self._encoder.wanted = self._control.geometry

    def _take_acknowledged(self, flow: Flow) -> None:
        """Learn the loss from acknowledgements. With parity, a lost segment shows as one that a later one
        overtook; not the last one of a set, which the parity restores before. Without parity, recovery tells
        loss from reordering."""
        sent = flow.segments - self._flow.segments
        if self._encoder.wanted.parity:
            data = self._encoder.wanted.data
            lost = (flow.overtaken - self._flow.overtaken) * data / max(1, data - 1)
        else:
            lost = float(flow.lost - self._flow.lost)
        if sent > 0:
            self._control.loss.add(sent, lost)
            self._flow = flow

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """The batches with headers, parity among them, and a report if one is due."""
        out = super().seal(batches, now_us)
        report = self._arrivals.report(now_us) if self._frame is None else None
        if report is not None:
            out.append(batch_of(report.reshape(1, -1)))
            self.counts.add(len(report))
        return out

    def open(self, batch: DatagramBatch, now_us: int) -> Opened:
        """The KCP datagrams of a batch, and those that were restored. Takes the peer's reports."""
        opened = super().open(batch, now_us)
        report, self._decoder.report = self._decoder.report, None
        losses = self._log.losses(report, self._encoder.number) if report is not None else None
        if losses is not None:
            self._control.loss.add(*losses)
        return opened

    def figures(self) -> dict[str, Value]:
        """The counters by metric key."""
        return super().figures() | {
            "fec_reason": self._control.reason,
            "fec_path_loss_percent": 100 * self._control.loss.share,
        }
