"""The words of the product and the small numbers that stand for them in the tables. Append only: numbers are on disk.

A damaged row may hold any number, or a text. `shown`, `route`, `priority`, `outcome` and `action` always answer, so
that a list with such a row can still be read; `postroom verify` reports the row.
"""

from __future__ import annotations

from postroom.model import Action, Outcome, Priority, Queue, Route

QUEUES = (Queue.PROCESSING, Queue.BULK, Queue.DELIVERY, Queue.HELD, Queue.SYSTEM)
# The queue number of an entry that ends when the undo window of its plan closes: kept, counted, hidden, never claimed.
LEAVING = len(QUEUES)
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


# Beyond these bounds a row is damaged.
MOST = 1 << 31  # attempts, strikes
LARGEST = 1 << 40  # bytes
LAST_TIME = 253_402_300_800_000  # the year 10,000: later dates cannot be written
_QUEUE_OF, _ROUTE_OF, _PRIORITY_OF = dict(enumerate(QUEUES)), dict(enumerate(ROUTES)), dict(enumerate(PRIORITIES))
_OUTCOME_OF, _ACTION_OF = dict(enumerate(OUTCOMES)), dict(enumerate(ACTIONS))


def shown(queue: int) -> Queue:
    """The queue that people see. An entry that is about to end shows as held, because a person may undo that; so does
    one whose queue is damaged, because a repair puts it there."""
    return _QUEUE_OF.get(queue, Queue.HELD)


def route(number: int) -> Route:
    return _ROUTE_OF.get(number, Route.EXTERNAL)


def priority(number: int) -> Priority:
    return _PRIORITY_OF.get(number, Priority.NORMAL)


def outcome(number: int) -> Outcome:
    """A damaged outcome counts as dropped: the entry left the queue and reached nobody that we know of."""
    return _OUTCOME_OF.get(number, Outcome.DROPPED)


def action(number: int | None) -> Action | None:
    return None if number is None else _ACTION_OF.get(number)


def is_placed(queue: object, from_queue: object) -> bool:
    """Whether people and workers find an entry in its queue, and a release can put it back there."""
    if queue == QUEUE[Queue.HELD]:
        return from_queue in _QUEUE_OF and from_queue != queue
    return queue in _QUEUE_OF and from_queue is None


def is_counted(attempts: object, since: object, strikes: object = 0) -> bool:
    """Whether a schedule can continue from these numbers."""
    return isinstance(since, int) and is_number(attempts, MOST) and is_number(strikes, MOST)


def is_number(value: object, bound: int) -> bool:
    return isinstance(value, int) and 0 <= value < bound


def is_sound(queue: int, route: int, priority: int) -> bool:
    """Whether the numbers of an entry stand for words."""
    return (queue in _QUEUE_OF or queue == LEAVING) and route in _ROUTE_OF and priority in _PRIORITY_OF
