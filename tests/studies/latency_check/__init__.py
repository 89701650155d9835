"""The latency of messages in the simulator and in the lab, beside each other: `make latency-check`."""
