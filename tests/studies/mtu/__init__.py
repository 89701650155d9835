"""Paths with a middle that carries shorter packets than their ends, with and without ICMP: `make mtu`."""
