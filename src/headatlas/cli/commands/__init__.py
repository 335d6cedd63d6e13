"""What each command of the command line does: call the library, print, say how it went."""

EXIT_FAILED, EXIT_MISTAKE = 1, 2
