"""One account is one key of the throttle, however its address is padded."""

from __future__ import annotations

import pytest

from postroom.clock import HandClock
from postroom.http.door.throttle import Throttle
from postroom.store.access import identity

OWNER = "admin@postroom.local"


@pytest.mark.parametrize("blank", [" ", "\t", "\u2003"])
def test_blanks_before_the_cut_make_no_new_account(blank: str) -> None:
    """As `login` makes its key; `find_user` folds the same text once more and finds the owner."""
    typed = OWNER + blank * 8 + " " * identity.MAX_EMAIL + "x"
    key = identity.fold_email(typed)[: identity.MAX_EMAIL]
    throttle = Throttle(HandClock(), 1, 60_000)
    assert throttle.wait("192.0.2.1", OWNER) == 0
    reaches_the_owner = identity.fold_email(key) == OWNER
    assert not reaches_the_owner or throttle.wait("192.0.2.2", key) > 0
