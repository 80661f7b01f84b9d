"""The words of the product as the small numbers that stand in the tables. Append only: numbers are on disk.

A damaged row may hold any number, or a text: `shown`, `route`, `priority`, `outcome` and `action` always answer, so that one such
row costs nobody the list it stands in; `postroom verify` tells of it.
"""

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


MOST = 1 << 31  # attempts, strikes; beyond these bounds a row is damaged
LARGEST = 1 << 40  # bytes
LAST_TIME = 253_402_300_800_000  # the year 10,000, which no date can be written of
_QUEUE_OF, _ROUTE_OF, _PRIORITY_OF = dict(enumerate(QUEUES)), dict(enumerate(ROUTES)), dict(enumerate(PRIORITIES))
_OUTCOME_OF, _ACTION_OF = dict(enumerate(OUTCOMES)), dict(enumerate(ACTIONS))


def shown(queue: int) -> Queue:
    """Where an entry waits, as people are told: what is about to end is kept for a person who may undo it, and what nobody
    knows where it stood is shown where a repair will put it."""
    return _QUEUE_OF.get(queue, Queue.HELD)


def route(number: int) -> Route:
    return _ROUTE_OF.get(number, Route.EXTERNAL)


def priority(number: int) -> Priority:
    return _PRIORITY_OF.get(number, Priority.NORMAL)


def outcome(number: int) -> Outcome:
    """Of a lost one: it left the queue, and reached nobody that we know of."""
    return _OUTCOME_OF.get(number, Outcome.DROPPED)


def action(number: int | None) -> Action | None:
    return None if number is None else _ACTION_OF.get(number)


def is_placed(queue: object, from_queue: object) -> bool:
    """Whether an entry stands where people and workers find it, and can go back there when it is held."""
    if queue == QUEUE[Queue.HELD]:
        return from_queue in _QUEUE_OF and from_queue != queue
    return queue in _QUEUE_OF and from_queue is None


def is_counted(attempts: object, since: object, strikes: object = 0) -> bool:
    """Whether a schedule can go on from these."""
    return isinstance(since, int) and is_number(attempts, MOST) and is_number(strikes, MOST)


def is_number(value: object, bound: int) -> bool:
    return isinstance(value, int) and 0 <= value < bound


def is_sound(queue: int, route: int, priority: int) -> bool:
    """Whether the numbers of an entry are words at all."""
    return (queue in _QUEUE_OF or queue == LEAVING) and route in _ROUTE_OF and priority in _PRIORITY_OF
