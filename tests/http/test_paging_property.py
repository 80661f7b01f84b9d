"""Pages under constant change: whatever arrives, moves or leaves, no row shows twice and none that stays is missed.

Each case is a queue of its own: the clock moves past the default window, so that nothing older is in sight.
"""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from postroom.clock import DAY, MINUTE
from postroom.http.gateway.calls import held
from postroom.model import Action, Queue, Route
from tests.http.conftest import FIND, Answer, HandClock, Served
from tests.http.generated import generated

SEEDS = st.integers(0, 1 << 64)
FIXTURES = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}


class World:
    """A queue that changes, what is in it, and what has always been in it since page one."""

    def __init__(self, served: Served, chance: random.Random) -> None:
        self.served, self.chance = served, chance
        self.route = chance.choice((None, Route.INBOUND))
        self.there: dict[str, int] = {}  # subject -> entry, of those that match
        self.held: dict[str, int] = {}
        self.stayed: set[str] = set()
        self.number = 0

    async def arrive(self) -> None:
        name = f"m{self.number}"
        self.number += 1
        route = self.chance.choice(list(Route))
        accepted = await self.served.put(subject=name, route=route, attachment=self.chance.random() < 0.3)
        if self.route in (None, route):
            self.there[name] = accepted.entries[0]

    async def leave(self, action: Action) -> None:
        if self.there:
            name = self.chance.choice(sorted(self.there))
            ident = self.there.pop(name)
            self.stayed.discard(name)
            await self.served.store.act(action, [ident], actor="test")
            if action is Action.HOLD:
                self.held[name] = ident

    async def come_back(self) -> None:
        if self.held:
            name = self.chance.choice(sorted(self.held))
            ident = self.held.pop(name)
            await self.served.store.act(Action.RELEASE, [ident], actor="test")
            self.there[name] = ident

    async def change(self) -> None:
        assert isinstance(self.served.clock, HandClock)
        for _ in range(self.chance.choice((0, 0, 1, 2, 4))):
            kind = self.chance.randrange(5)
            if kind <= 1:
                await self.arrive()
            elif kind == 2:
                await self.leave(Action.HOLD)
            elif kind == 3:
                await self.leave(Action.REJECT)
            else:
                await self.come_back()
            if self.chance.random() < 0.2:
                self.served.clock.move(self.chance.randint(1, MINUTE))


async def follow(served: Served, token: str, path: str = FIND) -> Answer:
    body = json.dumps({"meta": {"pagination": {"pageToken": token}}}).encode()
    return await served.post(path, served.signed(path), body)


def subjects(answer: Answer) -> list[str]:
    return [message["subject"] for message in answer.messages]


@generated(120, "queues that change between pages", **FIXTURES)
@given(seed=SEEDS)
async def test_the_union_of_the_pages_is_what_stayed_each_once(served: Served, seed: int) -> None:
    assert isinstance(served.clock, HandClock)
    served.clock.move(8 * DAY)
    chance = random.Random(seed)
    world = World(served, chance)
    for _ in range(chance.randint(0, 14)):
        await world.arrive()
    size = chance.randint(1, 5)
    item: dict[str, Any] = {"sortOrder": chance.choice(("asc", "desc"))}
    if world.route is not None:
        item["filterBy"] = [{"route": world.route.value}]
    if chance.random() < 0.3:
        item["searchBy"] = {"fieldName": "subject", "value": "M"}

    page = await served.find(item, pageSize=size)
    total = len(world.there)
    first = frozenset(world.there)
    world.stayed = set(first)
    seen = Counter(subjects(page))
    pages = 1
    while "next" in page.pagination:
        assert len(subjects(page)) <= size
        assert page.pagination["totalCount"] == total
        await world.change()
        page = await follow(served, page.pagination["next"])
        seen.update(subjects(page))
        pages += 1
        assert pages <= total + 1
    assert page.pagination.get("totalCount", 0) == total
    assert max(seen.values(), default=0) <= 1, "a row showed twice"
    assert world.stayed <= seen.keys(), "a row that stayed was missed"
    assert seen.keys() <= first, "a row that arrived later was shown"

    seen, back = Counter(subjects(page)), page
    while "previous" in back.pagination:  # the same way back
        await world.change()
        back = await follow(served, back.pagination["previous"])
        assert back.pagination["totalCount"] == total
        seen.update(subjects(back))
    assert max(seen.values(), default=0) <= 1
    assert world.stayed <= seen.keys() <= first


@generated(40, "walks to and fro", **FIXTURES)
@given(seed=SEEDS)
async def test_any_walk_sees_the_same_pages_while_nothing_leaves(served: Served, seed: int) -> None:
    """Forwards and backwards at random, mail arriving all the time: what stands where stays so."""
    assert isinstance(served.clock, HandClock)
    served.clock.move(8 * DAY)
    chance = random.Random(seed)
    world = World(served, chance)
    for _ in range(chance.randint(3, 12)):
        await world.arrive()
    newest = chance.random() < 0.5
    wanted = sorted(world.there, key=lambda name: world.there[name], reverse=newest)
    item: dict[str, Any] = {"sortOrder": "desc" if newest else "asc"}
    if world.route is not None:
        item["filterBy"] = [{"route": world.route.value}]
    size = chance.randint(1, 4)
    page = await served.find(item, pageSize=size)
    at = 0
    for _ in range(12):
        assert subjects(page) == wanted[at : at + size]
        ways = [way for way in ("next", "previous") if way in page.pagination]
        assert ways == [way for way, there in (("next", at + size < len(wanted)), ("previous", at > 0)) if there]
        if not ways:
            break
        way = chance.choice(ways)
        await world.arrive()
        page = await follow(served, page.pagination[way])
        at += size if way == "next" else -size


@generated(60, "tokens that were tampered with", **FIXTURES)
@given(seed=SEEDS)
async def test_no_changed_token_is_read(served: Served, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(2):
        await served.put()
    token = (await served.find({}, pageSize=1)).pagination["next"]
    sent = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    raw = bytearray(sent)
    at = chance.randrange(len(raw))
    kind = chance.randrange(4)
    if kind == 0:
        raw[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del raw[at:]
    elif kind == 2:
        raw[at:at] = chance.randbytes(chance.randint(1, 4))
    else:  # the beginning of another, equally good one
        other = (await served.find({"sortOrder": "asc"}, pageSize=1)).pagination["next"]
        raw[:at] = base64.urlsafe_b64decode(other + "=" * (-len(other) % 4))[:at]
    if bytes(raw) != sent and raw:
        answer = await follow(served, base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode())
        assert answer.json["fail"][0]["errors"][0]["message"] == "0007 Invalid token"
        assert answer.json["data"] == []


async def test_a_token_of_one_function_is_none_of_another(served: Served) -> None:
    for _ in range(3):
        await served.put()
    token = (await served.find({}, pageSize=1)).pagination["next"]
    answer = await follow(served, token, held.LIST)
    assert answer.json["fail"][0]["errors"][0]["message"] == "0007 Invalid token"


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_queue_that_empties_and_fills_between_two_pages(served: Served, order: str) -> None:
    entries = [(await served.put(subject=f"m{number}")).entries[0] for number in range(4)]
    first = await served.find({"sortOrder": order}, pageSize=2)
    await served.store.act(Action.HOLD, entries, actor="test")
    await served.put(subject="late", queue=Queue.PROCESSING)
    second = await follow(served, first.pagination["next"])
    assert (subjects(second), second.pagination) == ([], {"pageSize": 0, "totalCount": 4})
    await served.store.act(Action.RELEASE, entries, actor="test")
    second = await follow(served, first.pagination["next"])
    assert subjects(second) == (["m2", "m3"] if order == "asc" else ["m1", "m0"])
