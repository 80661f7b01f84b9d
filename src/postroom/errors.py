"""The three kinds of failure, and nothing else.

A failure is the *peer's* (bad bytes, a refused command, a wrong signature), the *environment's* (disk full, database
locked, destination unreachable) or *our bug* (an assertion). Peer's failures become replies, environment's failures
become "try again later", bugs are logged with their trace and never hidden.
"""

from __future__ import annotations


class PostroomError(Exception):
    """Base of every failure that this package raises on purpose."""


class PeerError(PostroomError):
    """Somebody sent us something that cannot be accepted; the text says what, where, and what was expected."""


class EnvironmentFailed(PostroomError):
    """Something around us does not work just now; the text names the thing and the remedy."""


class StoreUnavailable(EnvironmentFailed):
    """The store could not commit: nothing of the batch was kept, nobody was told "kept"."""


class StoreUnusable(EnvironmentFailed):
    """The store cannot be opened at all: unknown or newer schema, locked directory, missing file."""


class SettingsError(PostroomError):
    """Wrong settings; `problems` lists every one, each with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
