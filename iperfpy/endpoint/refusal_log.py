"""The log lines of clients that a server turns away.

    refused 192.0.2.7 port 40112: this server is busy running a test

Anybody can make a server write such lines, so each source (an IPv6 /64 is one) has a limit. Lines beyond it
are counted, and the next line of that source says how many were left out.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from iperfpy.endpoint.places import source_of
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.units import counted

SERVICE = logging.getLogger("iperfpy.service")
"""The log of a server's life: one line for each test, for each refusal, and for the end."""

BURST = 20
LINES_PER_S = 1.0
ADDRESSES = 1024
"""Addresses with counted lines; the one that was refused longest ago is forgotten first."""


@dataclass(slots=True)
class _Quota:
    """Lines that an address may still cause, as of a time."""

    lines: float
    at_s: float
    left_out: int = 0


class RefusalLog:
    """Writes the lines, and counts the clients that were refused.

    Attributes
    ----------
    count : refused clients, with or without a line
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._now_s = now_s
        self._quotas: OrderedDict[str, _Quota] = OrderedDict()

    def refused(self, address: SocketAddress, reason: str) -> None:
        """Note that a client at this address was turned away."""
        self.count += 1
        quota, host = self._quota(source_of(str(address[0]))), address[0]
        if quota.lines < 1:
            quota.left_out += 1
            return
        quota.lines -= 1
        more = f" ({counted(quota.left_out, 'line')} of this address left out)" if quota.left_out else ""
        quota.left_out = 0
        SERVICE.info("refused %s port %s: %s%s", host, address[1], reason, more)

    def _quota(self, source: str) -> _Quota:
        """The address's quota, filled up for the time that has passed."""
        now_s = self._now_s()
        quota = self._quotas.pop(source, None) or _Quota(BURST, now_s)
        quota.lines = min(BURST, quota.lines + (now_s - quota.at_s) * LINES_PER_S)
        quota.at_s = now_s
        self._quotas[source] = quota
        if len(self._quotas) > ADDRESSES:
            self._quotas.popitem(last=False)
        return quota
