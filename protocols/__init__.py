"""Transports: they carry the bytes of a test. README.md beside this file is the map.

No module of this package imports the rest of `iperfpy`. The contract, the settings and the
declarations of the transports import neither numpy nor asyncio: a command line must be able
to list every flag in a few milliseconds.
"""
