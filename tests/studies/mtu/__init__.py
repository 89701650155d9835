"""Paths whose middle carries shorter packets than their ends, with and without ICMP: `make mtu`."""
