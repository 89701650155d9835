"""BBR (draft-ietf-ccwg-bbr-05) with a loss floor: it tells the path's own loss from congestion."""

from iperfpy.protocols.congestion.bbr.bbr import Bbr

__all__ = ["Bbr"]
