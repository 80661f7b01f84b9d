"""How a batch becomes rows: the writer gives each `Batch` (`store/engine.py`) to the one `Recorder` of its process.

Promises: calls come last, so they see everything that was handed over before them. Answers are for after the commit.
Fails: database errors pass through; then nothing of the batch is kept, and `forget` must follow.
"""

from __future__ import annotations

from collections.abc import Callable

from postroom.clock import Millis
from postroom.ids import IdGiver
from postroom.store.engine import Answer, Batch, Call, CallDone, Recorded, Tx, given
from postroom.store.queue import apply
from postroom.store.queue.horizon import Horizon


class Recorder:
    """What one process remembers from transaction to transaction. Used on the writer's thread alone."""

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

    def counted(self) -> dict[str, int]:
        return dict(self.ledger.added)

    def forget(self, counted: dict[str, int] | None = None) -> None:
        self.ledger.added = counted or {}
        self.infos.forget()
        self.horizon.forget()

    def forget_texts(self) -> None:
        self.infos.forget()
