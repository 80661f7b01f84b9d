"""The store as the conformance suite opens it, for tests that look inside SQLite."""

from __future__ import annotations

from tests.conformance.conftest import Opener, clock, opening, settings, store
from tests.conformance.driven import a_message, accepted, claimed, hand

__all__ = ["Opener", "a_message", "accepted", "claimed", "clock", "hand", "opening", "settings", "store"]
