"""What a person does to entries and stages, with its line in the audit log: one transaction, neither without the other.

Fails: as `actions` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from postroom.clock import Millis
from postroom.model import Scope
from postroom.store.engine import Tx, named
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


_PAUSED_BY = named("queue.find_pause_by", "SELECT 1 FROM pause WHERE scope = :scope AND actor = :actor")


def following(wanted: Mapping[Scope, bool], actor: str, now: Millis) -> Callable[[Tx], None]:
    """Pause the stages that the settings want paused; resume one that they no longer do, unless a person paused it.

    `actor`: the name under which the settings pause.
    """

    def follow(tx: Tx) -> None:
        for scope, paused in wanted.items():
            if paused or tx.rows(_PAUSED_BY, {"scope": scope.value, "actor": actor}):
                switching(scope, actor, now, paused=paused)(tx)

    return follow
