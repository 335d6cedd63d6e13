"""What each command of the command line does: call the library, print, say how it went."""

from pathlib import Path

EXIT_FAILED, EXIT_MISTAKE = 1, 2
DEFAULT_OUT = Path("headatlas-records")
