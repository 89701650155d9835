"""BBR (draft-ietf-ccwg-bbr-05) with a loss floor that separates the path's own loss from congestion."""

from iperfpy.protocols.congestion.bbr.bbr import Bbr

__all__ = ["Bbr"]
