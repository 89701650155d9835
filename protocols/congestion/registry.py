"""Congestion controllers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocols.congestion.bbr import Bbr
from protocols.congestion.classic import ClassicControl
from protocols.congestion.contract import CongestionControl

CONTROLLERS: Mapping[str, Callable[[int], CongestionControl]] = {
    "classic": lambda seed: ClassicControl(),
    "bbr": Bbr,
}
"""Name -> factory, given a seed. Stock KCP with nc=1 has none of them."""
