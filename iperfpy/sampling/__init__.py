"""From cumulative counters to samples, rows and sums; pure, except `host.py`."""
