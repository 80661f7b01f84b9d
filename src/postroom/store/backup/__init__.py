"""Backup and restore of a whole store."""

from postroom.store.backup.backup import add_to_audit, as_json
from postroom.store.backup.backup import back_up as take
from postroom.store.backup.manifest import Manifest
from postroom.store.backup.pins import remove_left_overs
from postroom.store.backup.restore import Restored, restore
from postroom.store.verbs import writes

record = writes(add_to_audit)

__all__ = ["Manifest", "Restored", "as_json", "record", "remove_left_overs", "restore", "take"]
