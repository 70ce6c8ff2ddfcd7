"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A mistake in what was asked or given. The message is one line: what, where, the numbers, the way out.

    The command line prints it without a traceback and exits with code 2.
    """


def one_line(error: Exception) -> str:
    """What an exception says, on one line and at most 300 characters; its kind when it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
