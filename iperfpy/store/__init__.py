"""Runs on disk: iperf3's JSON document of a test, and the typed records that it is read back into."""
