"""The errors that commands show in one line, without a traceback."""


class UserError(Exception):
    """A mistake of the user's, told in one line; commands exit with code 2."""


class RunFailedError(Exception):
    """A run that cannot go on, through no mistake in its flags; commands exit with code 1."""


def printable(text: object) -> str:
    r"""A text, such as a path, in one line: other characters become escapes.

    Example:
        >>> printable("a\nb")
        'a\\nb'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )
