"""One function per command: call the library, print, return the exit code."""

EXIT_FAILED, EXIT_MISTAKE = 1, 2
