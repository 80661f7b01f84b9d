"""The words of the product as the small numbers that stand in the tables. Append only: numbers are on disk."""

from __future__ import annotations

from postroom.model import Action, Outcome, Priority, Queue, Route

QUEUES = (Queue.PROCESSING, Queue.BULK, Queue.DELIVERY, Queue.HELD, Queue.SYSTEM)
LEAVING = len(
    QUEUES
)  # of an entry that ends when the undo window of its plan is over: kept, counted, hidden, never claimed
ROUTES = (Route.INBOUND, Route.OUTBOUND, Route.INTERNAL, Route.EXTERNAL)
PRIORITIES = (Priority.NORMAL, Priority.LOW)
OUTCOMES = (
    Outcome.DELIVERED, Outcome.BOUNCED, Outcome.REJECTED, Outcome.DROPPED, Outcome.DELETED, Outcome.EXPIRED,
    Outcome.EXPORTED,
)  # fmt: skip
ACTIONS = (
    Action.RETRY, Action.HOLD, Action.RELEASE, Action.REJECT, Action.BOUNCE, Action.DELETE, Action.BULK, Action.UNBULK,
)  # fmt: skip

QUEUE = {word: number for number, word in enumerate(QUEUES)}
ROUTE = {word: number for number, word in enumerate(ROUTES)}
PRIORITY = {word: number for number, word in enumerate(PRIORITIES)}
OUTCOME = {word: number for number, word in enumerate(OUTCOMES)}
ACTION = {word: number for number, word in enumerate(ACTIONS)}


def shown(queue: int) -> Queue:
    """Where an entry waits, as people are told: what is about to end is kept for a person who may undo it."""
    return Queue.HELD if queue == LEAVING else QUEUES[queue]
