"""Transports: what carries the bytes.

Nothing below this package imports `iperfpy`. Importing the package, its contract,
its settings and the declarations of the transports pulls in neither numpy nor asyncio's
event loops: a command line must be able to list every flag in a few milliseconds.
"""
