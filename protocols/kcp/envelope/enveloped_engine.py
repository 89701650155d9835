"""An engine with the layers of an envelope between it and the socket."""

from __future__ import annotations

from collections.abc import Sequence

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.crypt_layers import CryptLayer
from iperfpy.protocols.kcp.envelope.fec import AdaptiveFec
from iperfpy.protocols.kcp.envelope.fec_control import Flow
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.sender_limits import SenderLimit
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.units import counted

MOST_REJECTED = 4
"""Datagrams that do not decrypt, before any that does, after which the keys differ."""
UNREADABLE = "nothing that arrives can be decrypted: is the key (--kcp-key) the same at both ends?"
_BYTES_PER_WORK = 4096
"""Bytes that take about as long to open as one record of the engine."""


class EnvelopedEngine:
    """Sends and receives for an engine, in the units of the socket.

    The counters of datagrams and of their bytes are those of the socket, with all layers.

    Parameters
    ----------
    layers : the innermost first; `EngineOptions.envelope_bytes` has the sum of their headers
    """

    __slots__ = ("_adaptive", "_crypt", "_engine", "_layers")

    def __init__(self, engine: Engine, layers: Sequence[Layer]) -> None:
        self._engine, self._layers = engine, tuple(layers)
        self._crypt = next((layer for layer in layers if isinstance(layer, CryptLayer)), None)
        self._adaptive = next((layer for layer in layers if isinstance(layer, AdaptiveFec)), None)

    def transmit(self, now_us: int, *, writer_waits: bool = False) -> list[DatagramBatch]:
        """Everything that should leave now, as `Engine.transmit`."""
        plain = batches = self._leaving(now_us, writer_waits=writer_waits)
        if not batches:
            return batches
        if self._adaptive is not None and self._adaptive.is_due(now_us):
            self._adaptive.steer(self._flow(now_us), now_us)
        for layer in self._layers:
            batches = layer.seal(batches, now_us)
        counts = self._engine.counts
        counts.never_left(plain)
        counts.leave(batches)
        return batches

    def _flow(self, now_us: int) -> Flow:
        """The engine's knowledge of its stream."""
        engine = self._engine
        held, delivery = engine.limits.of_load(now_us), engine.delivery
        return Flow(
            rtt_us=delivery.mean_rtt.value_us,
            application_us=held[SenderLimit.APPLICATION],
            limited_us=sum(held.values()),
            segments=engine.counts.queued_segments,
            overtaken=delivery.record.overtaken,
            lost=delivery.lost,
        )

    def _leaving(self, now_us: int, *, writer_waits: bool) -> list[DatagramBatch]:
        """The engine's datagrams, in the clear."""
        return self._engine.transmit(now_us, writer_waits=writer_waits)

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        """Take note of datagrams that arrived, as `Engine.receive`."""
        counts = self._engine.counts
        datagrams, size = counts.datagrams_received + batch.count, counts.wire_bytes_received + batch.size
        self._open(batch, now_us, len(self._layers))
        counts.datagrams_received, counts.wire_bytes_received = datagrams, size
        if not self._engine.receiving.has_data:
            counts.received_before_data = datagrams
        counts.work += batch.size // _BYTES_PER_WORK

    @property
    def understands(self) -> bool:
        """True once a datagram of the peer has decrypted, or if nothing is encrypted.

        Raises
        ------
        StreamPeerError
            When several datagrams have come and none has decrypted.
        """
        crypt = self._crypt
        if crypt is None or crypt.accepted:
            return True
        if crypt.rejected >= MOST_REJECTED:
            # Nothing else can be told: a stock peer does not say which cipher it has.
            raise StreamPeerError(UNREADABLE)
        return False

    def warnings(self) -> tuple[str, ...]:
        """Sentences about datagrams that were dropped."""
        crypt, said = self._crypt, list[str]()
        if crypt is not None and crypt.rejected:
            why = "of another key (--kcp-key), damaged, or not the peer's"
            said.append(f"dropped {counted(crypt.rejected, 'datagram')} that could not be decrypted: {why}")
        if crypt is not None and crypt.replayed:
            said.append(f"dropped {counted(crypt.replayed, 'encrypted datagram')} that came again")
        return tuple(said)

    def figures(self) -> dict[str, Value]:
        """The counters of all layers, by metric key."""
        return {key: value for layer in self._layers for key, value in layer.figures().items()}

    def _open(self, batch: DatagramBatch, now_us: int, layers: int) -> None:
        """Pass a batch to the engine through so many layers. Each batch goes all the way before the next one:
        a layer uses its memory again."""
        if not layers:
            self._engine.receive(batch, now_us)
            return
        opened = self._layers[layers - 1].open(batch, now_us)
        self._engine.counts.work += opened.worked_bytes // _BYTES_PER_WORK
        for each in opened.arrived:
            self._open(each, now_us, layers - 1)
        for each in opened.recovered:
            self._engine.receive(each, now_us, recovered=True)
