"""What each command of the command line does: call the library, print, say how it went."""

EXIT_FAILED, EXIT_MISTAKE = 1, 2
# As headatlas.census.exchange has them; it is not imported before it is needed.
HEAD_FORMATS = ("json", "csv", "headkv", "duoattention", "qrhead", "transformerlens")
