"""Imported by the process that warm programs are forked from: it finds the transports once for all of them.

Finding them reads the entry points of every installed package, which takes as long as a short test.
"""

from iperfpy.protocols.registry import transports

transports()
