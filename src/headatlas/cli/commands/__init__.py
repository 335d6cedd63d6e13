"""What each command of the command line does: call the library, print, say how it went."""

from pathlib import Path

EXIT_FAILED, EXIT_MISTAKE = 1, 2
DEFAULT_OUT = Path("headatlas-records")
DEFAULT_COLLABORATION = Path("headatlas-collaboration")
DEFAULT_CENSUS = Path("headatlas-census")
# As headatlas.census.exchange has them; it is not imported before it is needed.
HEAD_FORMATS = ("json", "csv", "headkv", "duoattention", "qrhead", "transformerlens")
