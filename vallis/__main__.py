"""``python -m vallis`` is the command ``vallis``."""

import sys

from vallis.cli import main

if __name__ == "__main__":
    sys.exit(main())
