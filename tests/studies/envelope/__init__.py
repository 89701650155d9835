"""Transfers between our engine and kcp-go or kcptun, with every envelope."""
