"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A mistake in what was asked or given. The message is one line: what, where, the numbers, the way out.

    The command line prints it without a traceback and exits with code 2.
    """
