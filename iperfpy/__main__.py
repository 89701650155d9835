"""`python -m iperfpy`, and the program `iperfpy`."""

import signal
import sys


def main() -> int:
    """Run the program; returns the exit status."""
    # Python's own handler would print a traceback of the imports. `run` takes the signals over.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from iperfpy.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
