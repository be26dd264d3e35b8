"""The two ways a command ends badly; each is one line on standard error."""


class UsageError(Exception):
    """The command was used wrongly: exit code 2."""


class RunFailed(Exception):
    """Something failed while running: exit code 1."""
