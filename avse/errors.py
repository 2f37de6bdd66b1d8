"""The error and the warning a user meets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class AvseError(Exception):
    """A user's mistake or a broken input: says what was wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 1.
    """


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Tell which extra of `avse` holds a package that is missing where it is imported.

    Arguments
    ---------
    extra : str
    what : str
        What is imported inside the `with` for, in the plural, as the start of a sentence.

    Raises
    ------
    AvseError
        In place of an `ImportError`.

    >>> with needs_extra("wer", "Word error rates"):
    ...     import missing
    Traceback (most recent call last):
    avse.errors.AvseError: Word error rates need the package missing, which is not installed: pip install 'avse[wer]'.
    """
    try:
        yield
    except ImportError as error:
        package = f"{(error.name or str(error)).partition('.')[0]}, which is not installed"
        raise AvseError(f"{what} need the package {package}: pip install 'avse[{extra}]'.") from error


class AvseWarning(UserWarning):
    """What a user should know of work that is done all the same. The command line prints the message in a line."""
