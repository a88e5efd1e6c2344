"""`python -m explorer COMMAND`: what the app can do, without a browser."""

import sys

from explorer.cli import main
from explorer.core.memory import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
