"""Errors that are a user's to mend: what happened, what was kept, and the command that mends it."""


class SuiteError(Exception):
    """Ends a run with one message and no traceback."""

    exit_status = 1


class UsageError(SuiteError):
    """Bad usage, configuration or input."""

    exit_status = 2


class MissingError(SuiteError):
    """Something needed is missing: a server, a model, a base."""

    exit_status = 3
