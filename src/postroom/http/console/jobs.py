"""Plans in progress for people at the console. The work continues when they leave the page.

Promises: a job runs to its end; its result is kept for ten minutes, for the person who started it only.
Fails: never; the exception that stopped a job is its result. Jobs end with the process; the plans are in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from postroom.clock import MINUTE, SECOND, Clock, Millis
from postroom.errors import EnvironmentFailed, PeerError
from postroom.http.admin.plans import PlanProblem, PlanShown
from postroom.http.console.choices import Banner
from postroom.telemetry import Log

T = TypeVar("T")
SOON = 1.0  # seconds that a form waits: what is done by then needs no page of its own
KEPT = 10 * MINUTE
MOST = 200  # finished jobs
STILL = 10 * SECOND
TITLES = {
    "bad_body": "Not done.", "bad_query": "This search cannot be read.",
    "search_too_broad": "This search takes too long.", "forbidden": "Not allowed.",
    "not_found": "There is no such plan any more.", "refused": "Refused.",
}  # fmt: skip

_running: set[asyncio.Task[Any]] = set()  # keeps tasks alive when a reload replaces their desk


class Job:
    __slots__ = ("task", "until")

    def __init__(self, task: asyncio.Task[PlanShown], until: Millis) -> None:
        self.task, self.until = task, until

    @property
    def done(self) -> bool:
        return self.task.done()

    @property
    def problem(self) -> BaseException | None:
        """The exception that stopped it; None while it runs and after success."""
        if not self.task.done():
            return None
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()


class Jobs:
    __slots__ = ("_clock", "_jobs", "_log", "_reached")

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock, self._log = clock, log
        self._jobs: dict[tuple[str, str], Job] = {}  # by what it is about, and who asked for it
        self._reached: dict[str, tuple[int, Millis]] = {}

    async def begin(self, about: str, email: str, work: Coroutine[Any, Any, PlanShown]) -> Job:
        """Start a job; returns when it is done, or after SOON."""
        job = Job(asyncio.create_task(work), self._clock.now() + KEPT)
        _running.add(job.task)
        job.task.add_done_callback(self._over)
        self._jobs.pop((about, email), None)
        self._jobs[about, email] = job
        finished = [key for key, known in self._jobs.items() if known.done]
        for key in finished[:-MOST]:
            del self._jobs[key]
        await asyncio.wait({job.task}, timeout=SOON)
        return job

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the result of a short job. The job continues when the request that waits is cancelled."""
        task = asyncio.create_task(work)
        _running.add(task)
        task.add_done_callback(self._over)
        await asyncio.wait({task})
        return task.result()

    def _over(self, task: asyncio.Task[Any]) -> None:
        _running.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and not isinstance(problem, PeerError):
            self._log.error("console_plan_stopped", problem=f"{type(problem).__name__}: {problem}")

    def find(self, about: str, email: str) -> Job | None:
        job = self._jobs.get((about, email))
        return job if job is not None and (not job.done or job.until > self._clock.now()) else None

    def running(self, about: str) -> bool:
        """Whether a job on this runs, started by any person."""
        return any(not job.done for (known, _), job in self._jobs.items() if known == about)

    def stands_still(self, about: str, reached: int) -> bool:
        """No progress for a while: the process that worked on it may have ended."""
        now = self._clock.now()
        known, since = self._reached.get(about, (-1, now))
        if known != reached:
            self._reached.pop(about, None)
            self._reached[about] = (reached, now)
            if len(self._reached) > MOST:
                del self._reached[next(iter(self._reached))]
            return False
        return now - since >= STILL


def banner(problem: BaseException) -> Banner:
    """What stopped a job, as a notice on the page."""
    if isinstance(problem, PlanProblem):
        text = str(problem)
        return Banner("bad", TITLES.get(problem.code, "Not done."), f"{text[:1].upper()}{text[1:]}.")
    if isinstance(problem, EnvironmentFailed):
        text = "The gateway's store does not answer. What was done so far is kept; continue in a moment."
        return Banner("bad", "Interrupted.", text)
    return Banner("bad", "Interrupted.", "The gateway's log says why. What was done so far is kept; you can continue.")
