"""Frames out: many with one system call (sendmmsg), without a copy in Python."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

import numpy as np

from iperfpy.protocols.simulator.inbox import Rows

MOST_AT_ONCE = 1_024
"""The kernel's limit, UIO_MAXIOV."""


class _Message(ctypes.Structure):
    """struct mmsghdr: its first seven fields are a struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent_bytes", ctypes.c_uint),
    )


_PARTS = np.dtype([("base", np.uintp), ("bytes", np.uintp)])
"""struct iovec"""

_PASSING = {errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE}
"""Errors of one frame, or of one moment."""


class FrameSender:
    """Sends frames through one packet socket, which is bound to a device."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._parts = np.zeros(MOST_AT_ONCE, _PARTS)
        self._messages = (_Message * MOST_AT_ONCE)()
        self._first = ctypes.addressof(self._messages)
        address = self._parts.ctypes.data
        for index, message in enumerate(self._messages):
            message.parts, message.part_count = address + index * _PARTS.itemsize, 1

    def send(self, pieces: Sequence[Rows]) -> int:
        """Send the frames of all pieces, (n, bytes) each; return the number that the kernel refused."""
        refused = waiting = 0
        for rows in pieces:
            for start in range(0, len(rows), MOST_AT_ONCE):
                part = rows[start : start + MOST_AT_ONCE]
                if waiting + len(part) > MOST_AT_ONCE:
                    refused += self._flush(waiting)
                    waiting = 0
                slots = self._parts[waiting : waiting + len(part)]
                slots["base"] = part.ctypes.data + np.arange(len(part), dtype=np.uintp) * part.strides[0]
                slots["bytes"] = part.shape[1]
                waiting += len(part)
        return refused + (self._flush(waiting) if waiting else 0)

    def _flush(self, count: int) -> int:
        """Send the first messages; one that the kernel refuses is left out."""
        sent = refused = 0
        while sent < count:
            at = self._first + sent * ctypes.sizeof(_Message)
            done = self._sendmmsg(self._descriptor, ctypes.c_void_p(at), count - sent, 0)
            if done <= 0:
                number = ctypes.get_errno()
                if number not in _PASSING:
                    raise OSError(number, os.strerror(number))
                refused, done = refused + 1, 1
            sent += done
        return refused
