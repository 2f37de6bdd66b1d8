"""The error and the warning a user meets."""

from __future__ import annotations


class AvseError(Exception):
    """A user's mistake or a broken input: says what was wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 1.
    """


class AvseWarning(UserWarning):
    """What a user should know of work that is done all the same. The command line prints the message in a line."""
