"""The ordered list of checks, and the runner that takes a message through them. SPF would be one more file here.

To add a check: write `checks/NAME.py` with a class that has `name` and `inspect` (see `Check` in `verdicts.py`), add a
line to `_MAKERS` below, a section to `settings/tree.py` if it has settings, and a test beside the others.

Promises: checks run in the order of the settings; checks with a verdict kept on the message are not run again; the
first verdict other than pass ends the run; checks that answer at once cost no task (three of them about 2
microseconds).
Fails: a check that raises or takes too long gives "retry later" with its name, and is logged: mail waits, and is never
lost or passed unchecked. Unknown names are SettingsError. An exception of `on_done` is the caller's bug: raised when
no check had to wait, logged otherwise.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from postroom.checks.antivirus import AntivirusCheck
from postroom.checks.loop import LoopCheck
from postroom.checks.size import SizeCheck
from postroom.checks.structure import StructureCheck
from postroom.checks.verdicts import Check, CheckedMessage, retry
from postroom.errors import SettingsError
from postroom.ids import public_id
from postroom.model import Message, Verdict, VerdictKind
from postroom.settings import Settings
from postroom.telemetry import Log

__all__ = ["ALL_PASSED", "KNOWN", "Check", "CheckedMessage", "OnDone", "Runner", "build"]

OnDone = Callable[[tuple[Verdict, ...], Verdict], None]

ALL_PASSED = Verdict(VerdictKind.PASS, "all")
CHECK_TIMEOUT = 300.0  # seconds for one check, its waiting in line included

_MAKERS: dict[str, Callable[[Settings, Log], Check]] = {
    "size": lambda settings, log: SizeCheck(settings.smtp.max_size),
    "structure": lambda settings, log: StructureCheck(settings.smtp.max_header),
    "loop": lambda settings, log: LoopCheck(settings.processing.max_hops),
    "antivirus": lambda settings, log: AntivirusCheck(settings.antivirus, log),
}
KNOWN = tuple(_MAKERS)


def build(settings: Settings, log: Log) -> list[Check]:
    """The checks listed in `processing.checks`, in that order."""
    names = settings.processing.checks
    problems = [
        f'processing.checks: "{name}" is not a check; known are {", ".join(KNOWN)}'
        for name in names
        if name not in _MAKERS
    ]
    problems += [
        f'processing.checks: "{name}" is named twice' for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if problems:
        raise SettingsError(problems)
    return [_MAKERS[name](settings, log) for name in names]


class _Run:
    """The run of one message through the checks."""

    __slots__ = ("at", "checks", "last", "on_done", "passes", "work")

    def __init__(
        self, work: CheckedMessage, checks: tuple[Check, ...], passed: tuple[Verdict, ...], on_done: OnDone
    ) -> None:
        self.work = work
        self.checks = checks
        self.at = 0
        self.passes = list(passed)
        self.last = ALL_PASSED
        self.on_done = on_done

    def take(self, verdict: Verdict) -> bool:
        """Records the verdict of the check at `at`; whether the run continues."""
        if verdict.kind is VerdictKind.PASS:
            self.passes.append(verdict)
            self.at += 1
            return True
        self.last = verdict
        return False

    def done(self) -> None:
        self.on_done(tuple(self.passes), self.last)


class Runner:
    """Takes messages through the checks."""

    __slots__ = ("_checks", "_log", "_tasks", "_timeout")

    def __init__(self, checks: Sequence[Check], log: Log, *, timeout: float = CHECK_TIMEOUT) -> None:
        self._checks = tuple(checks)
        self._log = log
        self._timeout = timeout
        self._tasks: set[asyncio.Task[None]] = set()

    def apply(self, checks: Sequence[Check]) -> None:
        """New checks for messages from now on."""
        self._checks = tuple(checks)

    @property
    def waiting(self) -> int:
        """Number of messages whose check has not answered yet."""
        return len(self._tasks)

    def run(self, message: Message, content: bytes | Path, passed: tuple[Verdict, ...], on_done: OnDone) -> None:
        """Calls `on_done(passes, last)` once: before this returns when no check had to wait, else from the event loop.

        `passed`: the verdicts kept on the message; their checks are skipped, whatever the verdict (after a person has
        released a hold, only the remaining checks run). `passes`: those and the new passes, to be kept for the next
        try. `last`: ALL_PASSED, or the verdict that ended the run.
        """
        checks = self._checks
        if passed:
            skipped = {verdict.check for verdict in passed}
            checks = tuple([check for check in checks if check.name not in skipped])
        run = _Run(CheckedMessage(message, content), checks, passed, on_done)
        answer = self._advance(run)
        if answer is None:
            run.done()
            return
        task = asyncio.get_running_loop().create_task(self._wait(run, answer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancels waiting checks without calling `on_done`: those messages were not checked."""
        await asyncio.sleep(0)  # a task that was never started would leave its check's coroutine unawaited
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _advance(self, run: _Run) -> Awaitable[Verdict] | None:
        """Runs checks until one has to wait (returns its answer) or the run is over (returns None)."""
        checks = run.checks
        while run.at < len(checks):
            try:
                verdict = checks[run.at].inspect(run.work)
            except Exception as error:  # noqa: BLE001 - a bug in one check must not stop the mail behind it
                verdict = self._failed(run, error)
            if not isinstance(verdict, Verdict):
                return verdict
            if not run.take(verdict):
                break
        return None

    async def _wait(self, run: _Run, answer: Awaitable[Verdict] | None) -> None:
        while answer is not None:
            if not run.take(await self._answer(run, answer)):
                break
            answer = self._advance(run)
        run.done()

    async def _answer(self, run: _Run, answer: Awaitable[Verdict]) -> Verdict:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            name = run.checks[run.at].name
            self._log.warning("check_timeout", check=name, id=public_id(run.work.message.id), seconds=self._timeout)
            return retry(name, f"Check {name} did not answer in time")
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(run, error)

    def _failed(self, run: _Run, error: Exception) -> Verdict:
        name = run.checks[run.at].name
        trace = "".join(traceback.format_exception(error))
        self._log.error("check_failed", check=name, id=public_id(run.work.message.id), trace=trace)
        return retry(name, f"Check {name} failed; the log says why")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:  # on_done raised: the caller's bug
            self._log.error("check_result_lost", trace="".join(traceback.format_exception(error)))
