"""The errors that commands show in one line, without a traceback."""


class UserError(Exception):
    """A mistake of the user's, told in one line; commands exit with code 2."""


class RunFailedError(Exception):
    """A run that cannot go on, through no mistake in its flags; commands exit with code 1."""
