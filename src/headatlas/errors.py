"""The error class for everything a user can fix."""


class HeadatlasError(Exception):
    """An error that the user can fix; the message says what is wrong and what to do.

    The command line prints one line per problem and exits with 2.
    """
