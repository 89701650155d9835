"""The layers of a stream's envelope, as its settings want them."""

from __future__ import annotations

from iperfpy.protocols.kcp.envelope.fec import Fec
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.kcp.settings import SharedSettings


def layers_of(settings: SharedSettings) -> list[Layer]:
    """Make the layers of one stream, the innermost first."""
    layers: list[Layer] = []
    if settings.geometry is not None:
        layers.append(Fec(Geometry(*settings.geometry)))
    return layers
