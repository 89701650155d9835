"""Any program over an emulated path, without root: `iperfpy lab PATH -- COMMAND...`.

    lab_session.py         one run: the world, the keeper, the relay, the report
      |
      |- world.py          namespaces with a device each: near end, middle, far end
      |    '- linux_calls.py, route_messages.py, offloads.py    system calls, devices and addresses, ethtool
      |- keeper.py         process 1 of the run's PID namespace: starts the server and the command
      |- relay.py          carries frames between the two ends
      |    |- frame_ring.py     frames in: a ring that the kernel fills
      |    |- frame_sender.py   frames out: one system call for many
      |    '- way.py             one direction: the simulator's `Link` in real time
      '- run_report.py     the counters at the end

`relay_session.py` is a run with `--relay`, for systems that forbid namespaces: `datagram_relay.py` carries
UDP over the path, and `byte_relay.py` passes TCP through. docs/lab.md is the guide.
"""
