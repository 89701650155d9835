"""The kit for developers of transports; docs/writing-a-transport.md is the guide.

`conformance.py` has the checks, `__main__.py` runs them over a plug-in, and `loopback.py` opens both ends of
a stream in one process. `forged_opening.py` opens one from an address that is not proven.
"""
