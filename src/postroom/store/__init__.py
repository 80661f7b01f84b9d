"""The face of the store: everything that others may use of it.

A verb called with its arguments gives a `Write` or a `Read`, which `Store.write` and `Store.read` run (`store.verbs`).
"""

from postroom.store import access, logs
from postroom.store.access import permissions
from postroom.store.engine import DAMAGE, FAILURE, LOCKED, NO_ROOM
from postroom.store.store import Store, open_store
from postroom.store.verbs import Read, Write

__all__ = [
    "DAMAGE",
    "FAILURE",
    "LOCKED",
    "NO_ROOM",
    "Read",
    "Store",
    "Write",
    "access",
    "logs",
    "open_store",
    "permissions",
]
