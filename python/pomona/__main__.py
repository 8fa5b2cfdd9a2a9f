"""`python -m pomona` is the `pomona` command."""

import sys

from pomona.cli import main

if __name__ == "__main__":
    sys.exit(main())
