"""What a person does to entries and stages, with its line in the audit log: one transaction, neither without the other.

Fails: as `actions` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import apsw

from postroom.clock import Millis
from postroom.model import Scope
from postroom.store import actions, audit


def acting(desk: actions.Desk, order: actions.Order, ids: Sequence[int]) -> Callable[[apsw.Connection], actions.Acted]:
    def act(connection: apsw.Connection) -> actions.Acted:
        acted = actions.act(connection, desk, order, ids)
        audit.add_acted(
            connection, order.action, acted.report, at=order.now, actor=order.actor, reason=order.reason
        )  # fmt: skip
        return acted

    return act


def switching(scope: Scope, actor: str, now: Millis, *, paused: bool) -> Callable[[apsw.Connection], bool]:
    """False when it was so already."""

    def switch(connection: apsw.Connection) -> bool:
        done = actions.pause(connection, scope, actor, now) if paused else actions.resume(connection, scope)
        if done:
            kind = "queue.pause" if paused else "queue.resume"
            audit.add(connection, at=now, actor=actor, kind=kind, what=scope.value)
        return done

    return switch
