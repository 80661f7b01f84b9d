"""What a person does to entries and stages, with its line in the audit log: one transaction, neither without the other.

Fails: as `actions` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postroom.clock import Millis
from postroom.model import Scope
from postroom.store.engine import Tx
from postroom.store.logs import audit
from postroom.store.queue import actions


def acting(
    context: actions.ActionContext, order: actions.Instruction, ids: Sequence[int]
) -> Callable[[Tx], actions.Acted]:
    def act(tx: Tx) -> actions.Acted:
        acted = actions.act(tx, context, order, ids)
        audit.add_acted(
            tx, order.action, acted.report, at=order.now, actor=order.actor, reason=order.reason
        )  # fmt: skip
        return acted

    return act


def switching(scope: Scope, actor: str, now: Millis, *, paused: bool) -> Callable[[Tx], bool]:
    """False when it was so already."""

    def switch(tx: Tx) -> bool:
        done = actions.pause(tx, scope, actor, now) if paused else actions.resume(tx, scope)
        if done:
            kind = "queue.pause" if paused else "queue.resume"
            audit.add(tx, at=now, actor=actor, kind=kind, what=scope.value)
        return done

    return switch
