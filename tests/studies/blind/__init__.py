"""Blind test of the diagnosis: drawn paths with a known truth, measured in the simulator."""
