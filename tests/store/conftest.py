"""The store as the conformance suite opens it, for tests that look inside SQLite."""

from __future__ import annotations

from tests.conformance.conftest import Elsewhere, Opener, clock, elsewhere, engine, opening, settings, store
from tests.conformance.driven import a_message, accepted, claimed, hand

__all__ = [
    "Elsewhere",
    "Opener",
    "a_message",
    "accepted",
    "claimed",
    "clock",
    "elsewhere",
    "engine",
    "hand",
    "opening",
    "settings",
    "store",
]
