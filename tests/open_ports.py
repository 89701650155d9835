"""Ports that are open in a network namespace, by the tables of its kernel.

A connection would tell as well, but it would count as the one test of `-1`.
"""

from __future__ import annotations

from pathlib import Path

OPEN = {"tcp": "0A", "udp": "07"}
"""Protocol -> state of a socket that listens, or has no peer, in the tables of /proc/net."""
TABLES = Path("/proc/net")


def open_ports(protocol: str = "tcp", folder: Path = TABLES) -> set[int]:
    """Ports that programs listen on. `protocol`: a key of `OPEN`. `folder`: of the kernel's tables."""
    tables = [folder / name for name in (protocol, f"{protocol}6")]
    return {port for table in tables if table.exists() for port in ports_in(table.read_text(), protocol)}


def ports_in(table: str, protocol: str = "tcp") -> set[int]:
    """Open ports of the text of a table, or of several behind each other."""
    rows = (line.split() for line in table.splitlines())
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == OPEN[protocol]}
