"""The retry schedule: attempts -> the next attempt, or give up. Pure.

There are two schedules, and both are settings. *Processing*, when a check could not answer: 10 s, 30 s, 1 min, 2 min,
then every 5 min; after 96 h the entry goes to `held`, never lost. *Delivery*, the vendor's table (contract section 8):
attempt 1 at once; each wait counts from the attempt before: 1, 5, 9, 15, 30 min, then hourly to attempt 15, every 4 h
to 21, every 8 h to 30. Given up after attempt 30 or 96 h, whichever is first.
"""

from __future__ import annotations

import msgspec

from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis


class Schedule(msgspec.Struct, frozen=True):
    """`waits[n-1]` follows the n-th failed attempt; the last wait repeats when `attempts` is larger than the list."""

    waits: tuple[Millis, ...]
    attempts: int  # 0 = no limit but the age
    age: Millis


PROCESSING = Schedule(
    waits=(10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE),
    attempts=0,
    age=96 * HOUR,
)

DELIVERY = Schedule(
    waits=(
        MINUTE,
        5 * MINUTE,
        9 * MINUTE,
        15 * MINUTE,
        30 * MINUTE,
        *(HOUR,) * 9,
        *(4 * HOUR,) * 6,
        *(8 * HOUR,) * 9,
    ),
    attempts=30,
    age=96 * HOUR,
)


def next_attempt(schedule: Schedule, attempts: int, since: Millis, now: Millis) -> Millis | None:
    """When to try again after `attempts` failed ones; None = give up.

    `since` is when the entry came under this schedule. The age bound cuts the last wait short rather than the life:
    an entry is tried once more at its very end.
    """
    assert attempts >= 1
    end = since + schedule.age
    if now >= end or (schedule.attempts and attempts >= schedule.attempts):
        return None
    wait = schedule.waits[min(attempts, len(schedule.waits)) - 1]
    return min(now + wait, end)


def as_if_failed(schedule: Schedule, attempts: int, since: Millis, now: Millis) -> Millis:
    """The next attempt should this one fail; past the end of the schedule the result itself decides."""
    at = next_attempt(schedule, attempts, since, now)
    return now + DAY if at is None else at
