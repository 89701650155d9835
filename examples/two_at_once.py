"""Run two tests at the same time: KCP with BBR to the server, and TCP from it."""

import asyncio

import iperfpy


async def main() -> None:
    async with iperfpy.LocalServer() as server:
        runs = await asyncio.gather(
            iperfpy.measure_async(server.host, port=server.port, transport="kcp-bbr", seconds=2),
            iperfpy.measure_async(server.host, port=server.port, reverse=True, seconds=2),
        )
    for run in runs:
        print(f"{run.transport} {run.plan.direction.value}: {run.bits_per_second / 1e6:.0f} Mbit/s")


asyncio.run(main())
