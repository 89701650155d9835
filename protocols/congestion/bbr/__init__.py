"""BBR (draft-ietf-ccwg-bbr-05) with a loss floor: it tells the path's own loss from congestion."""

from protocols.congestion.bbr.control import Bbr

__all__ = ["Bbr"]
