"""The layers of KCP's envelope alone, without sockets: payload per processor time of one core.

    python -m tests.studies.speed.envelopes fec 10:3        one JSON line of figures
    python -m tests.studies.speed.envelopes crypt aes

Datagrams have 1,400 bytes. A sender's batch has 700 of them, a receiver's 182, as the socket gives them. A
figure is the best of several repetitions, because other programs share the caches.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.fec import Fec
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.layer_factory import crypt_layer
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry

DATAGRAM_BYTES, SENT, READ = 1_400, 700, 182
REPEATS = 30
LOSSES, MOST_LOST = (0.0, 0.01, 0.05), 3


def fec(geometry: Geometry) -> dict[str, float]:
    """Encoding, and decoding without loss, at random loss, and with the first data datagrams of every set
    missing: one, and as many as the parity restores, at most three."""
    size = DATAGRAM_BYTES - Fec.header_bytes
    count = SENT // geometry.data * geometry.data
    plain, bits = _plain(count, size), 8 * count * size
    sender = Fec(geometry)
    figures = {"encode_bits_per_s": bits / best(lambda: sender.seal([plain], 0))}
    rows = _wire(Fec(geometry), plain)
    for loss in LOSSES:
        kept = rows[np.random.default_rng(1).random(len(rows)) >= loss]
        figures[f"decode_{loss * 100:g}_bits_per_s"] = bits / best(_opening(lambda: Fec(geometry), kept))
    places = np.arange(len(rows)) % geometry.shards
    for lost in range(1, min(MOST_LOST, *geometry) + 1):
        each = best(_opening(lambda: Fec(geometry), rows[places >= lost]))
        figures[f"decode_each_{lost}_bits_per_s" if lost > 1 else "decode_each_bits_per_s"] = bits / each
    return figures


def crypt(name: str) -> dict[str, float]:
    """Encryption and decryption."""
    sender = crypt_layer(name, b"a secret", os.urandom)
    size = DATAGRAM_BYTES - sender.header_bytes
    plain, bits = _plain(SENT, size), 8 * SENT * size
    sealing = best(lambda: sender.seal([plain], 0))
    rows = _wire(crypt_layer(name, b"a secret", os.urandom), plain)
    opening = best(_opening(lambda: crypt_layer(name, b"a secret", os.urandom), rows))
    return {"seal_bits_per_s": bits / sealing, "open_bits_per_s": bits / opening}


def best(work: Callable[[], object]) -> float:
    """Processor seconds of the fastest repetition."""
    shortest = float("inf")
    for _ in range(REPEATS):
        before = time.process_time()
        work()
        shortest = min(shortest, time.process_time() - before)
    return shortest


def _plain(count: int, size: int) -> DatagramBatch:
    data = np.random.default_rng(1).integers(0, 256, count * size, np.uint8)
    return DatagramBatch(data, size, count, size)


def _wire(layer: Layer, plain: DatagramBatch) -> NDArray[np.uint8]:
    """The datagrams of one transmission as rows, in memory of their own; parity comes from the second one on
    for every geometry."""
    layer.seal([plain], 0)
    (sealed,) = layer.seal([plain], 0)
    return sealed.data[: sealed.size].reshape(sealed.count, sealed.stride).copy()


def _opening(make: Callable[[], Layer], rows: NDArray[np.uint8]) -> Callable[[], None]:
    """Work that opens the datagrams in batches as a socket gives them, by a new receiver each time."""
    batches = [
        DatagramBatch.of(np.ascontiguousarray(rows[at : at + READ]).reshape(-1), rows.shape[1])
        for at in range(0, len(rows), READ)
    ]

    def work() -> None:
        layer = make()
        for batch in batches:
            layer.open(batch, 0)

    return work


def main(arguments: list[str]) -> None:
    kind, name = arguments
    if kind == "fec":
        data, parity = name.split(":")
        figures = fec(Geometry(int(data), int(parity)))
    else:
        figures = crypt(name)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
