"""The reasons for which the system refuses a call, in words."""

from __future__ import annotations

import errno
import socket


def system_reason(error: BaseException) -> str:
    """The reason why the system refused, without error numbers and names of calls.

    A file's name precedes it, if the error knows one.
    """
    if isinstance(error, socket.gaierror):
        return (error.strerror or "unknown name").lower()
    if not isinstance(error, OSError):
        return str(error)
    limit = _LIMITS.get(error.errno or 0)
    if limit:  # the file at which the limit was met is not the cause
        return limit
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else _NETWORK_REASONS.get(error.errno or 0, text)


_LIMITS = {
    errno.EMFILE: "this process may open no more files and sockets (see ulimit -n)",
    errno.ENFILE: "this machine has no more files and sockets to give",
    errno.ENOMEM: "this machine has no memory left",
    errno.ENOBUFS: "this machine has no memory left for network buffers",
}
"""Error numbers of a limit of this process or machine -> the reason in words."""

_NETWORK_REASONS = {
    errno.EADDRINUSE: "the port is in use",
    errno.EADDRNOTAVAIL: "the address is not one of this machine",
    errno.EACCES: "permission denied",
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ETIMEDOUT: "no answer",
}
