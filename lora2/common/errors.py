"""Errors that a user can mend."""


class UserError(ValueError):
    """Report a mistake of the user's: a wrong field, file or value, never a fault of the program.

    The message names the field or file, what was found, what is allowed, and how to mend it. Entry points print it
    without a traceback and end with `exit_code`.
    """

    exit_code = 2


class BusyError(UserError):
    """Report that another process is doing the run that was asked for; a sweep leaves it to that process."""

    exit_code = 3
