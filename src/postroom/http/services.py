"""The objects that HTTP handlers use. The composition root builds them once and passes them down."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from postroom.clock import Clock
from postroom.http.scans import Scans
from postroom.sealing import Sealer
from postroom.settings import Settings
from postroom.store import Store
from postroom.telemetry import Counts, Log


class Services(msgspec.Struct, frozen=True):
    store: Store
    settings: Settings
    clock: Clock
    log: Log
    counts: Counts
    sealer: Sealer
    ready: Callable[[], list[str]]  # why this gateway is not ready; empty = ready
    scans: Scans = msgspec.field(default_factory=Scans)  # turns of long reads; new settings keep them
