"""Periodic tasks of the serving process: the look at the disk, and the chores that keep the store small.

Promises: the disk is checked every DISK_LOOK even while a chore runs; chores run one at a time when they are due, and
none ends the loop. A chore uses the writer in small slices (store/keep/upkeep.py). Fails: never; a failed chore is
logged and runs again when it is due.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

from postroom.clock import SECOND, Clock
from postroom.errors import EnvironmentFailed
from postroom.ids import public_id
from postroom.settings import Settings
from postroom.store import Store, backup, keep, plans
from postroom.telemetry import Log

DISK_LOOK = 1.0  # seconds
REAP_EVERY = 60.0
REAP_SOONEST = 1.0
ORPHANS_EVERY = 3600.0
SWEEP_EVERY = 600.0  # a look whether it is worth it
LEDGER_EVERY = 60.0
PLANS_EVERY = 1.0


class Chore:
    """A task that runs every `every` seconds, first `first` seconds after the start."""

    __slots__ = ("due", "every", "first", "name", "run")

    def __init__(self, name: str, every: float, run: Callable[[], Awaitable[None]], *, first: float) -> None:
        self.name, self.every, self.run, self.first = name, every, run, first
        self.due = 0.0


class Upkeep:
    """`run` is a task of the serving process; `add` before it starts."""

    def __init__(
        self, settings: Settings, store: Store, *, look_at_disk: Callable[[], None], clock: Clock, log: Log
    ) -> None:
        self._settings = settings
        self._store = store
        self._look_at_disk = look_at_disk
        self._clock = clock
        self._log = log
        self._forgetting = keep.Forgetting(store)
        self._damaged_plans: set[int] = set()  # of which it was said; there are as many of them as plans
        often = _often(settings)
        self._chores = [
            Chore("doubtful_bodies", DISK_LOOK, self._settle_doubtful, first=DISK_LOOK),
            Chore("history", often, self._forget_history, first=often),
            Chore("orphans", ORPHANS_EVERY, self._collect_orphans, first=DISK_LOOK),
            Chore("infos", SWEEP_EVERY, self._sweep_infos, first=SWEEP_EVERY),
            Chore("access", REAP_EVERY, self._expire_access, first=REAP_EVERY),
            Chore("ledger", LEDGER_EVERY, self._check_ledger, first=DISK_LOOK),
            Chore("plans", PLANS_EVERY, self._look_after_plans, first=DISK_LOOK),
            Chore("retained", REAP_EVERY, self._look_after_retained, first=DISK_LOOK),
        ]

    def add(self, chore: Chore) -> None:
        self._chores.append(chore)

    def apply(self, settings: Settings) -> None:
        """New settings from the next round on."""
        self._settings = settings
        for chore in self._chores:
            if chore.run == self._forget_history:
                chore.every = _often(settings)

    async def run(self) -> None:
        looking = asyncio.create_task(self._looking())
        now = asyncio.get_running_loop().time
        for chore in self._chores:
            chore.due = now() + chore.first
        try:
            while True:
                for chore in self._chores:
                    if now() >= chore.due:
                        await self._do(chore)
                        chore.due = now() + chore.every
                await asyncio.sleep(DISK_LOOK)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _looking(self) -> None:
        while True:
            await asyncio.sleep(DISK_LOOK)
            try:
                self._look_at_disk()
            except OSError as problem:
                self._log.warning("disk_unseen", problem=str(problem))
            except Exception as bug:  # noqa: BLE001 - the look at the disk must go on
                self._log.error("disk_unseen", trace="".join(traceback.format_exception(bug)), bug="yes")

    async def _do(self, chore: Chore) -> None:
        try:
            await chore.run()
        except (OSError, EnvironmentFailed, MemoryError) as problem:
            self._log.warning("upkeep_failed", chore=chore.name, problem=str(problem) or repr(problem))
        except Exception as bug:  # noqa: BLE001 - the other chores must go on
            trace = "".join(traceback.format_exception(bug))
            self._log.error("upkeep_failed", chore=chore.name, trace=trace, bug="yes")

    # -- the chores

    async def _forget_history(self) -> None:
        await self._forgetting.round(self._clock.now() - self._settings.retention.history)
        await keep.give_back(self._store)

    async def _settle_doubtful(self) -> None:
        if not self._store.failing:
            deleted = await keep.settle_doubtful(self._store)
            if deleted:
                self._log.info("orphans_deleted", bodies=deleted)

    async def _collect_orphans(self) -> None:
        deleted = await keep.collect_orphans(self._store, self._clock.now())
        root = self._store.bodies.root
        left = await asyncio.get_running_loop().run_in_executor(None, backup.remove_left_overs, root)
        if deleted or left:
            self._log.info("orphans_deleted", bodies=deleted, killed_backups=left)

    async def _sweep_infos(self) -> None:
        now = self._clock.now()
        if await self._store.read(keep.sweep_due(now)):
            deleted = await keep.sweep_infos(self._store, now)
            self._log.info("infos_swept", deleted=deleted)

    async def _check_ledger(self) -> None:
        await keep.check_ledger(self._store, self._log)

    async def _expire_access(self) -> None:
        """Expires tokens, signatures and audit lines in small steps until nothing is left."""
        now = self._clock.now()
        before = now - self._settings.retention.audit
        while await self._store.write(keep.expire_access(now, before)):
            pass

    async def _look_after_plans(self) -> None:
        before = self._clock.now() - self._settings.retention.history
        ended = await plans.carry_out(
            self._store, plans.look_after(self._store, self._clock, before, self._tell_damaged)
        )
        if ended:
            self._log.info("plans_ended", entries=ended)

    def _tell_damaged(self, plan: plans.Damaged) -> None:
        """Once: it is met again in each round."""
        if plan.id not in self._damaged_plans:
            self._damaged_plans.add(plan.id)
            self._log.error("plan_damaged", plan=public_id(plan.id), problem=str(plan))

    async def _look_after_retained(self) -> None:
        await keep.look_after_logs(self._store, self._settings.retention, self._clock.now())


def _often(settings: Settings) -> float:
    """A short retention wants short rounds: ten in its time, as far as that is reasonable. Seconds."""
    return min(REAP_EVERY, max(REAP_SOONEST, settings.retention.history / SECOND / 10))
