"""The face of the store: everything that others may use of it.

A verb called with its arguments gives a `Write` or a `Read`, which `Store.write` and `Store.read` run (`store.verbs`).
"""

from postroom.store import access, backup, find, keep, logs, plans, queue, verify
from postroom.store.access import permissions
from postroom.store.bodies import INLINE_BODY, Bodies
from postroom.store.engine import DAMAGE, FAILURE, LOCKED, NO_ROOM
from postroom.store.find.reader import Reader
from postroom.store.find.readers import MAIL
from postroom.store.fold import MAX_TEXT, SearchTooBroad
from postroom.store.records import AcceptDone, Accepted, Claimed, EndedEntry, Lease, Moved, NewMessage, Waited
from postroom.store.store import Store, open_store
from postroom.store.timeline import PackedEvent
from postroom.store.timeline import pack as pack_events
from postroom.store.verbs import Read, Write

__all__ = [
    "DAMAGE",
    "FAILURE",
    "INLINE_BODY",
    "LOCKED",
    "MAIL",
    "MAX_TEXT",
    "NO_ROOM",
    "AcceptDone",
    "Accepted",
    "Bodies",
    "Claimed",
    "EndedEntry",
    "Lease",
    "Moved",
    "NewMessage",
    "PackedEvent",
    "Read",
    "Reader",
    "SearchTooBroad",
    "Store",
    "Waited",
    "Write",
    "access",
    "backup",
    "find",
    "keep",
    "logs",
    "open_store",
    "pack_events",
    "permissions",
    "plans",
    "queue",
    "verify",
]
