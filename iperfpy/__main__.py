"""`python -m iperfpy`."""

import sys

from iperfpy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
