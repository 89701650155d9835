"""Reported figures against captured packets, over a real kernel path: see `__main__`."""
