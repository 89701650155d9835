"""From measurements to causes: pure functions, without clocks and sockets."""
