"""What is reported against what was on the wire, over a real kernel path: see `__main__`."""
