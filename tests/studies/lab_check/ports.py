"""Ports at the far end, and the settings of TCP that both ends of both instruments have."""

from __future__ import annotations

import contextlib
from pathlib import Path

SERVER, ECHO, COUNT, REPORT = 5_201, 7_001, 7_002, 7_003

_SETTINGS = {
    "tcp_rmem": "4096 131072 67108864",
    "tcp_wmem": "4096 65536 67108864",
    "tcp_no_metrics_save": "1",
}


def settle_tcp() -> None:
    """Give TCP of this network namespace large buffers, and no memory of earlier connections."""
    for name, value in _SETTINGS.items():
        with contextlib.suppress(OSError):
            Path("/proc/sys/net/ipv4", name).write_text(value)
