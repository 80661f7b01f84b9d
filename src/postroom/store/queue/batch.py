"""What waits for the next commit, and how it becomes rows: one `Batch`, recorded inside one transaction.

Promises: calls come last, so they see all that was handed over before them; whoever waits is answered only after the commit.
Fails: what the database raises passes through; nothing of the batch is kept then, and `forget` must follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from postroom.clock import Millis
from postroom.ids import IdGiver
from postroom.model import Action
from postroom.store.engine import Tx
from postroom.store.queue import apply
from postroom.store.queue.horizon import Horizon
from postroom.store.records import AcceptDone, EndedEntry, Moved, NewMessage, Waited

MoveDone = Callable[[Action | bool | None], None]
Answer = Callable[[], None]
Call = Callable[[Tx], Any]
CallDone = Callable[[Any, BaseException | None], None]


class Batch:
    """What was handed over since the last commit."""

    __slots__ = ("arrivals", "calls", "ends", "moves", "waits")

    def __init__(self) -> None:
        self.arrivals: list[tuple[NewMessage, Millis | None, AcceptDone]] = []
        self.calls: list[tuple[Call, CallDone]] = []
        self.moves: list[tuple[Moved, MoveDone | None]] = []
        self.waits: list[Waited] = []
        self.ends: list[EndedEntry] = []

    def take(self, other: Batch) -> None:
        self.arrivals += other.arrivals
        self.calls += other.calls
        self.moves += other.moves
        self.waits += other.waits
        self.ends += other.ends

    def __bool__(self) -> bool:
        return bool(self.arrivals or self.calls or self.moves or self.waits or self.ends)

    def __len__(self) -> int:
        return len(self.arrivals) + len(self.calls) + len(self.moves) + len(self.waits) + len(self.ends)

    def singly(self) -> list[Batch]:
        """Each of its records in a batch of its own, in the order in which they are recorded."""
        singles = []
        for name in ("arrivals", "moves", "waits", "ends", "calls"):
            for item in getattr(self, name):
                single = Batch()
                getattr(single, name).append(item)
                singles.append(single)
        return singles


class Recorded(NamedTuple):
    """What is left to do after the commit."""

    answers: list[Answer]  # on the event loop
    settled: list[Answer]  # of calls: they find their own way
    objects: list[str]  # bodies to delete


class Recorder:
    """Everything that one process remembers from transaction to transaction. Used on the writer's thread alone."""

    def __init__(
        self, ids: IdGiver, *, life: int, next_attempt: Callable[[Millis], Millis], on_lost: Callable[[int], None]
    ) -> None:
        self.ids = ids
        self.infos = apply.Infos()
        self.horizon = Horizon(ids.now)
        self.ledger = apply.LedgerLines(life)
        self._next_attempt = next_attempt
        self._on_lost = on_lost

    def record(self, tx: Tx, batch: Batch, call: Callable[[Call, CallDone, bool], Answer]) -> Recorded:
        """All of a batch, in an open transaction. `call` runs one of its calls; it is told whether that is the whole batch."""
        answers: list[Answer] = []
        objects: list[str] = []
        if batch.arrivals:
            news = [(new, until) for new, until, _ in batch.arrivals]
            self.horizon.reach(tx, max(until or 0 for _, until in news))
            accepted = apply.insert(tx, self.ids, self.infos, self.ledger, news, self._next_attempt)
            answers += [given(done, got) for (_, _, done), got in zip(batch.arrivals, accepted, strict=True)]
        for moved, moved_done in batch.moves:
            result = apply.move(tx, self.infos, moved)
            if result is False:
                answers.append(given(self._on_lost, moved.entry))
            if moved_done is not None:
                answers.append(given(moved_done, result))
        for waited in batch.waits:
            if not apply.wait(tx, self.infos, waited):
                answers.append(given(self._on_lost, waited.entry))
        if batch.ends:
            lost, objects = apply.end(tx, self.ids, self.infos, self.ledger, batch.ends, self._next_attempt)
            answers += [given(self._on_lost, ended.entry) for ended in lost]
        alone = len(batch) == 1
        settled = [call(function, finished, alone) for function, finished in batch.calls]
        self.ledger.write(tx)
        return Recorded(answers, settled, objects)

    def forget(self) -> None:
        """What was written was rolled back."""
        self.infos.forget()
        self.horizon.forget()


def given(done: Callable[[Any], None], value: Any) -> Answer:
    return lambda: done(value)


def failed(finished: CallDone, failure: BaseException) -> Answer:
    return lambda: finished(None, failure)
