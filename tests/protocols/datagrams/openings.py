"""A stream that proves its address: its conv, the tag of its challenges, its opening, and two addresses."""

from __future__ import annotations

import struct

from iperfpy.protocols.datagrams.address_proof import Addresses, tag_of

CONV = 0xDEADBEEF
TAG = struct.pack("<I", tag_of(CONV))
OPENING = TAG + bytes(6)
HERE: Addresses = (("192.0.2.1", 5000), ("192.0.2.9", 5201))
