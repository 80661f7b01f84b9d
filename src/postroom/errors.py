"""The three kinds of failure, and nothing else.

A failure is the *peer's* (bad bytes, a refused command, a wrong signature), the *environment's* (disk full, database
locked, destination unreachable) or *our bug* (an assertion). Peers get a reply, environment failures become "try again
later", bugs are logged with their trace and never hidden.
"""

from __future__ import annotations


class PostroomError(Exception):
    """Base of all failures that this package raises on purpose."""


class PeerError(PostroomError):
    """A peer sent something that we cannot accept; the text says what, where, and what was expected."""


class EnvironmentFailed(PostroomError):
    """Something around us does not work now; the text names it and the remedy."""


class StoreUnavailable(EnvironmentFailed):
    """The store could not commit: it kept nothing of the batch and acknowledged nothing."""


class StoreUnusable(EnvironmentFailed):
    """The store cannot be opened at all: unknown or newer schema, locked directory, missing file."""


class SettingsError(PostroomError):
    """Wrong settings; `problems` lists them all, each with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
