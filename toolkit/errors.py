"""The one exception that means "the user can mend this"; command lines print it as one line and exit with 2."""


class UserError(ValueError):
    """Bad input: the message names the file, the key, the value and what is allowed, in one line."""

    def __str__(self) -> str:
        """The message in one line, whatever the user's own names or the system's words hold."""
        return " ".join(super().__str__().splitlines())


class AgreedError(UserError):
    """A UserError that every rank of a job raises: all of them end by themselves, nobody waits for another."""
