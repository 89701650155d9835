"""The event loop, sockets, signals and deadlines: the part of a test that touches the operating system."""
