"""The face of the store: everything that others may use of it.

A verb called with its arguments gives a `Write` or a `Read`, which `Store.write` and `Store.read` run (`store.verbs`).
"""

from postroom.store import access
from postroom.store.store import Store, open_store

__all__ = ["Store", "access", "open_store"]
