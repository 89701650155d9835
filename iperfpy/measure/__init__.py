"""From cumulative counters to samples, and from samples to a summary."""
