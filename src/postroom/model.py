"""The product's terms as frozen data without behaviour. Times are milliseconds UTC, sizes are bytes."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from postroom.clock import Millis


class Queue(StrEnum):
    """Where an entry waits."""

    PROCESSING = "processing"
    BULK = "bulk_processing"
    DELIVERY = "delivery"
    HELD = "held"
    SYSTEM = "system"


class Route(StrEnum):
    """Direction, by whether sender and recipient are ours (contract section 8)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"
    EXTERNAL = "external"


class Priority(StrEnum):
    NORMAL = "normal"
    LOW = "low"


class Origin(StrEnum):
    """How an entry came to be (left side of the ledger)."""

    ACCEPTED = "accepted"
    NOTICE = "notice"
    COPY = "copy"
    REDIRECT = "redirect"
    IMPORT = "import"


class Outcome(StrEnum):
    """How an entry ended (right side of the ledger)."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    DROPPED = "dropped"
    DELETED = "deleted"
    EXPIRED = "expired"
    EXPORTED = "exported"


class Label(IntEnum):
    """What an administrator must know about an entry beyond its queue. A bit set."""

    NONE = 0
    MAYBE_DELIVERED = 1  # a lease that may have delivered it ended without a result
    SUSPECT = 2  # three leases in a row ended without a result


class VerdictKind(StrEnum):
    PASS = "pass"  # noqa: S105 - a word of the product, not a password
    RETRY = "retry"
    HOLD = "hold"
    REJECT = "reject"
    DROP = "drop"
    BULK = "bulk"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a check says of a message. `info` is a short sentence for people."""

    kind: VerdictKind
    check: str
    info: str = ""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What the header of a message says, as text for people and search. Missing values are empty."""

    from_address: str = ""
    from_name: str = ""
    to_header: str = ""
    subject: str = ""
    message_id: str = ""
    attachment: bool = False
    hops: int = 0  # Received fields
    body_at: int = 0  # offset of the first body byte
    parts: int = 1  # MIME leaves seen
    depth: int = 0  # deepest MIME nesting
    problems: tuple[str, ...] = ()  # faults of its form, for the structure check


class Client(msgspec.Struct, frozen=True, gc=False):
    """The SMTP client that sent us a message."""

    ip: str
    name: str = ""  # reverse name, where known
    helo: str = ""
    esmtp: bool = True
    tls: str = ""  # protocol and cipher, empty in clear
    user: str = ""  # authenticated user


class Recipient(msgspec.Struct, frozen=True, gc=False):
    """One RCPT: becomes one entry."""

    address: str
    route: Route
    name: str = ""  # display name, where the To or Cc header has one for this address


class Message(msgspec.Struct, frozen=True, gc=False):
    """The bytes and the envelope as accepted; never changes. `body` is None when the bytes live outside memory."""

    id: int
    client: Client
    env_from: str
    facts: Facts
    size: int
    received: Millis
    body: bytes | None
    body_object: str  # name of the stored object, empty when the bytes are in the database
    body_hash: bytes  # of everything below the header
    verdicts: tuple[Verdict, ...] = ()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message for one recipient: the unit that we queue, lease, list and act on."""

    id: int
    message_id: int
    queue: Queue
    from_queue: Queue | None
    route: Route
    recipient: str
    recipient_name: str
    priority: Priority
    info: str
    attempts: int
    next_attempt: Millis
    locked_until: Millis | None
    lease: int | None
    strikes: int  # leases in a row that ended without a result
    label: int
    env_from: str
    from_address: str
    from_name: str
    to_header: str
    subject: str
    remote_ip: str
    size: int
    attachment: bool
    created: Millis


class Ended(msgspec.Struct, frozen=True, gc=False):
    """An entry of the history."""

    id: int
    message_id: int
    queue: Queue
    route: Route
    recipient: str
    env_from: str
    from_address: str
    subject: str
    remote_ip: str
    size: int
    attachment: bool
    attempts: int
    label: int
    outcome: Outcome
    ended: Millis
    reply: str
    created: Millis


class Event(msgspec.Struct, frozen=True, gc=False):
    """One line of an entry's history. `kind` is a word of `postroom.rules.lifecycle.EVENTS`."""

    at: Millis
    kind: str
    queue: str = ""
    info: str = ""
    actor: str = ""


class Field(StrEnum):
    """What a text search looks at."""

    ALL = "all"
    FROM = "from"
    TO = "to"
    SUBJECT = "subject"
    INFO = "info"
    IP = "ip"


class Aspect(StrEnum):
    """What a term looks at, beside the texts of `Field`."""

    FROM = "from"
    TO = "to"
    SUBJECT = "subject"
    INFO = "info"
    IP = "ip"
    ALL = "all"  # bare words
    ERROR = "error"  # the answer to the last try
    DESTINATION = "destination"  # the recipient's domain
    VERDICT = "verdict"  # a check that the message passed
    PRIORITY = "priority"
    LABEL = "label"
    IS = "is"  # a state that changes with time
    ATTEMPTS = "attempts"
    NEXT = "next"  # milliseconds until the next try
    SIZE = "size"


class Relation(StrEnum):
    HAS = ":"  # substring, any case; for words: is
    MATCHES = "*"  # the whole address; `*` matches anything
    WITHIN = "/"  # an IP network
    LESS = "<"
    MOST = "<="
    LEAST = ">="
    MORE = ">"


class Term(msgspec.Struct, frozen=True, gc=False):
    """One condition of a query. Numbers are bytes, milliseconds or counts."""

    aspect: Aspect
    relation: Relation
    value: str | int
    negated: bool = False


class Filter(msgspec.Struct, frozen=True, gc=False):
    """Which entries to find. Every condition must hold; empty means "any"."""

    queues: tuple[Queue, ...] = ()
    routes: tuple[Route, ...] = ()
    attachment: bool | None = None
    since: Millis | None = None  # created at or after
    until: Millis | None = None  # created at or before
    text: str = ""  # substring, any case
    field: Field = Field.ALL
    ids: tuple[int, ...] = ()
    terms: tuple[Term, ...] = ()


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


class Scope(StrEnum):
    """What can be paused."""

    PROCESSING = "processing"
    DELIVERY = "delivery"


class Action(StrEnum):
    """What a person can do to an entry in this release."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    REJECT = "reject"
    BOUNCE = "bounce"  # return to sender now
    DELETE = "delete"
    BULK = "bulk"  # from processing to bulk_processing ...
    UNBULK = "unbulk"  # ... and back


class ActionReport(msgspec.Struct, frozen=True, gc=False):
    """What an action did: three disjoint lists that together hold every id asked for."""

    done: tuple[int, ...]
    requested: tuple[int, ...]  # leased now: the worker acts when its lease ends
    refused: tuple[tuple[int, str], ...]  # id and why
