"""`python -m sync_core COMMAND`."""

import sys

from sync_core.cli import main

sys.exit(main(sys.argv[1:]))
