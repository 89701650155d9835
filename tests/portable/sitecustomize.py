"""A system without Linux's features, for the tests: `PYTHONPATH=tests/portable python ...` (make portable).

Python imports this module before any other. It takes away, from every process that a test starts as well,
the names by which the program finds those features: the system's name, control messages, shared ports,
non-blocking flags, epoll, memfd_create, sendfile, uvloop. The program then does what it does elsewhere.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

# The interpreter's own build configuration is found by the platform's name.
os.environ["_PYTHON_SYSCONFIGDATA_NAME"] = "_".join(
    ("_sysconfigdata", sys.abiflags, sys.platform, getattr(sys.implementation, "_multiarch", ""))
)
sys.platform = "another-system"

for module, names in {
    socket: ("CMSG_SPACE", "CMSG_LEN", "SO_REUSEPORT", "MSG_DONTWAIT", "TCP_CONGESTION", "SO_BINDTODEVICE"),
    select: ("epoll",),
    os: ("memfd_create", "sendfile", "sched_setaffinity", "sched_getaffinity"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


class NoUvloop(MetaPathFinder):
    """Finds nothing for uvloop, and says so before any other finder is asked."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname == "uvloop":
            raise ModuleNotFoundError("uvloop is switched off", name=fullname)
        return None


sys.meta_path.insert(0, NoUvloop())
