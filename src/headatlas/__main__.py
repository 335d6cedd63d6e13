"""`python -m headatlas`: the same as the command `headatlas`."""

import sys

from headatlas.cli.program import main

sys.exit(main())
