"""Reads the running gateway's `/metrics` and API, and writes the status line.

Promises: read-only. Fails: `LookFailed` when the gateway does not answer; the next look may work.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import httpx

from postroom_client import AsyncClient, Credentials, PostroomClientError, Retries

MOST = 1000  # messages whose lights are counted
RATE_OVER = 10.0  # seconds
OTHER_QUEUES = (("bulk", "bulk_processing"), ("delivery", "delivery"), ("held", "held"), ("system", "system"))
_SAMPLE = re.compile(r'^(postroom_\w+)(?:\{\w+="(\w+)"\})? ([0-9.e+-]+)$', re.MULTILINE)


class LookFailed(Exception):
    """The gateway did not answer."""


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to see at one moment."""

    queues: Mapping[str, int]
    created: Mapping[str, int]  # by origin
    ended: Mapping[str, int]  # by outcome
    lights: Mapping[str, int]

    @property
    def queued(self) -> int:
        return sum(self.queues.values())


class Watcher:
    """Keeps its connection open."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._url = url
        self._http = httpx.AsyncClient(timeout=5.0, trust_env=False)  # no proxy between us and this machine
        self._client = AsyncClient(url, credentials, retries=Retries(attempts=1), http=self._http)

    async def close(self) -> None:
        await self._http.aclose()

    async def look(self) -> Look:
        try:
            answer = await self._http.get(f"{self._url}/metrics")
            answer.raise_for_status()
            return read_metrics(answer.text, await self._lights())
        except (httpx.HTTPError, PostroomClientError) as problem:
            raise LookFailed(str(problem) or type(problem).__name__) from None

    async def _lights(self) -> Mapping[str, int]:
        lights: Counter[str] = Counter()
        now = datetime.now(UTC)
        async for page in self._client.find_processing_messages().pages():
            lights.update(message.light(now) for message in page.messages)
            if lights.total() >= MOST:
                break
        return lights


def read_metrics(text: str, lights: Mapping[str, int]) -> Look:
    """The three families the status line is made of."""
    found: dict[str, dict[str, int]] = {}
    for name, label, value in _SAMPLE.findall(text):
        found.setdefault(name, {})[label] = int(float(value))
    return Look(
        found.get("postroom_queue_entries", {}),
        found.get("postroom_created_total", {}),
        found.get("postroom_ended_total", {}),
        lights,
    )


@dataclass(slots=True)
class StatusLine:
    """Writes looks as text; remembers enough of them to say how fast mail comes in."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def write(self, look: Look, at: float) -> tuple[str, str]:
        """(what waits, what has come and gone); `at` in seconds, for the rate."""
        accepted = look.created.get("accepted", 0)
        self._seen.append((at, accepted))
        while len(self._seen) > 2 and self._seen[1][0] <= at - RATE_OVER:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = (accepted - before) / (at - since) if at > since else 0.0
        lights = ", ".join(f"{look.lights.get(name, 0)} {name}" for name in ("locked", "delayed", "normal"))
        others = "  ".join(f"{name} {look.queues.get(queue, 0)}" for name, queue in OTHER_QUEUES)
        ended = "  ".join(f"{name} {look.ended.get(name, 0)}" for name in ("delivered", "bounced", "rejected"))
        waiting = look.queues.get("processing", 0)
        return f"processing {waiting} ({lights})  {others}", f"accepted {accepted}  {ended}  {rate:.1f}/s"


def fitted(line: str, width: int | None = None) -> str:
    """As much of a line as the terminal shows on one row."""
    width = width or shutil.get_terminal_size().columns
    return line if len(line) < width else "".join(islice(line, max(width - 2, 0))) + "…"
