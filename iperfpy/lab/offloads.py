"""Offloads of a device (ethtool(8), linux/ethtool.h): off, so that it carries packets as a cable does.

With them, TCP and UDP hand the device packets of up to 64 KiB without checksums, which a card would cut and
complete.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946
_SWITCHES = {
    "tx checksums": 0x17,  # ETHTOOL_STXCSUM
    "scatter-gather": 0x19,  # ETHTOOL_SSG
    "TCP segmentation": 0x1F,  # ETHTOOL_STSO
    "generic segmentation": 0x24,  # ETHTOOL_SGSO
    "generic receive": 0x2C,  # ETHTOOL_SGRO
}


def switch_off(device: str) -> None:
    """Switch all offloads of a device of this network namespace off. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in _SWITCHES.values():
            # struct ethtool_value {command, data}, and struct ifreq with a pointer to it
            value = ctypes.create_string_buffer(struct.pack("@II", command, 0))
            request = struct.pack("@16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
            fcntl.ioctl(sock, SIOCETHTOOL, request)
