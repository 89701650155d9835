"""Measure one path over KCP with BBR, from the server to this machine."""

import iperfpy

with iperfpy.LocalServer() as server:  # or the name of a host that runs `iperfpy -s`
    run = iperfpy.measure(server.host, port=server.port, transport="kcp-bbr", reverse=True, seconds=2)

print(f"{run.bits_per_second / 1e6:.0f} Mbit/s, {run.total('retrans_percent'):.2f} % sent again")
print("RTT of each interval, us:", run.column("rtt_us"))
