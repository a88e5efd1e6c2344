"""`explorer COMMAND`, or `python -m explorer COMMAND`: what the app can do, without a browser."""

import sys

from explorer import cli
from explorer.core.memory import keep_freed_memory


def main() -> int:
    """The console script; returns the exit code."""
    keep_freed_memory()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
