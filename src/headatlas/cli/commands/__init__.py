"""One function per command: call the library, print, return the exit code."""

from pathlib import Path

EXIT_FAILED, EXIT_MISTAKE = 1, 2
DEFAULT_OUT = Path("headatlas-records")
DEFAULT_COLLABORATION = Path("headatlas-collaboration")
DEFAULT_CENSUS = Path("headatlas-census")
# A copy of the formats in headatlas.census.exchange, which is imported only when needed.
HEAD_FORMATS = ("json", "csv", "headkv", "duoattention", "qrhead", "transformerlens")
