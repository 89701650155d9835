"""Attacks on a server beside honest tests: rate lost, newcomers' delay, memory, tracebacks."""
