"""The texts that mark an entry when a part of it cannot be read.

What cannot be read is never deleted: its entries go to `held` with one of these texts, for a person to decide. There
are few of them, because they go into the dictionary of reasons.
"""

from __future__ import annotations

UNREADABLE = "The stored message cannot be read; see the log, and restore it from a backup"
BODY_GONE = "The stored body is gone or not complete; restore it from a backup, then release"
BODY_CHANGED = "The stored body is not what was accepted; compare it, or restore it from a backup, then release"
MISPLACED = "It names the message of another entry; look at it, then release"
ENDED_BEFORE = "It stands in the history, too, as if it had ended; find out whether it was delivered, then release"
RESTORED_STATE = "Its stored state was damaged and has been put right; look at it, then release"
RECIPIENT_LOST = "Its entry was lost, and the recipient with it; read its header, tell the sender, then reject it"
ENTRY_UNREADABLE = "Its recipient cannot be read; postroom verify --repair tells what is left of it"
INFO_LOST = "The stored reason was lost"
STATE_DAMAGED = "Its stored state is damaged; postroom verify --repair puts it right"

# Entries held with one of these are known damage: nothing more can be done for them without a person.
MARKS = frozenset({UNREADABLE, BODY_GONE, BODY_CHANGED, MISPLACED, ENDED_BEFORE, RESTORED_STATE, RECIPIENT_LOST})

NOBODY = "unknown@lost.invalid"  # in place of a lost recipient: can reach nobody (RFC 6761 6.4)
