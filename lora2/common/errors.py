"""Errors that a user can mend."""


class UserError(ValueError):
    """A mistake of the user's: a wrong field, file or value, never a fault of the program.

    The message names the field or file, what was found, what is allowed, and how to mend it. Entry points print it
    without a traceback and end with `exit_code`.
    """

    exit_code = 2


class BusyError(UserError):
    """Another process is doing what was asked for; it is left to that one."""

    exit_code = 3
