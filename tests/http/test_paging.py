"""Pages stay consistent while the queue moves (contract section 4)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from postroom.clock import HOUR
from postroom.http.gateway.paging.tokens import TokenSeal
from postroom.model import Action
from postroom.sealing import Sealer
from postroom.settings import Api
from postroom.store.access import identity
from tests.http.conftest import FIND, Answer, HandClock, Serve, Served, golden


async def fill(served: Served, number: int) -> list[tuple[int, ...]]:
    return [(await served.put(subject=f"m{index}")).entries for index in range(number)]


def subjects(answer: Answer) -> list[str]:
    return [message["subject"] for message in answer.messages]


async def follow(served: Served, token: str, **body: Any) -> Answer:
    """What a plain client sends: the token and nothing else."""
    text = json.dumps({"meta": {"pagination": {"pageToken": token}}, **body})
    return await served.post(FIND, served.signed(), text.encode())


async def test_forward_and_back_without_a_gap(served: Served) -> None:
    await fill(served, 5)
    first = await served.find({}, pageSize=2)
    assert subjects(first) == ["m4", "m3"]
    assert first.pagination.keys() == {"pageSize", "totalCount", "next"}
    second = await follow(served, first.pagination["next"])
    assert subjects(second) == ["m2", "m1"]
    assert second.pagination.keys() == {"pageSize", "totalCount", "next", "previous"}
    third = await follow(served, second.pagination["next"])
    assert subjects(third) == ["m0"]
    assert third.pagination.keys() == {"pageSize", "totalCount", "previous"}
    assert [page.pagination["pageSize"] for page in (first, second, third)] == [2, 2, 1]
    assert [page.pagination["totalCount"] for page in (first, second, third)] == [5, 5, 5]
    back = await follow(served, third.pagination["previous"])
    assert (subjects(back), back.pagination.keys()) == (subjects(second), second.pagination.keys())
    back = await follow(served, back.pagination["previous"])
    assert (subjects(back), back.pagination.keys()) == (subjects(first), first.pagination.keys())


async def test_oldest_first_pages_too(served: Served) -> None:
    await fill(served, 3)
    first = await served.find({"sortOrder": "asc"}, pageSize=2)
    await served.put(subject="late")
    second = await follow(served, first.pagination["next"])
    assert subjects(first) + subjects(second) == ["m0", "m1", "m2"]
    assert "next" not in second.pagination
    assert subjects(await follow(served, second.pagination["previous"])) == ["m0", "m1"]


async def test_what_arrives_later_moves_no_page(served: Served) -> None:
    await fill(served, 6)
    page = await served.find({}, pageSize=2)
    seen = subjects(page)
    while "next" in page.pagination:
        await served.put(subject="late")
        page = await follow(served, page.pagination["next"])
        assert page.pagination["totalCount"] == 6
        seen += subjects(page)
    assert seen == ["m5", "m4", "m3", "m2", "m1", "m0"]
    page = await follow(served, page.pagination["previous"])
    page = await follow(served, page.pagination["previous"])
    assert subjects(page) == ["m5", "m4"]
    assert "previous" not in page.pagination


async def test_what_leaves_vanishes_and_nothing_is_skipped(served: Served) -> None:
    entries = await fill(served, 6)
    first = await served.find({}, pageSize=2)
    await served.store.act(Action.HOLD, (*entries[4], *entries[3]), actor="test")
    second = await follow(served, first.pagination["next"])
    assert subjects(second) == ["m2", "m1"]


async def test_a_page_that_has_emptied_still_leads_both_ways(served: Served) -> None:
    entries = await fill(served, 6)
    first = await served.find({}, pageSize=2)
    second = await follow(served, first.pagination["next"])
    third = await follow(served, second.pagination["next"])
    await served.store.act(Action.HOLD, (*entries[0], *entries[1]), actor="test")
    gone = await follow(served, second.pagination["next"])
    assert gone.messages == []
    assert gone.pagination.keys() == {"pageSize", "totalCount", "previous"}
    assert subjects(await follow(served, gone.pagination["previous"])) == ["m3", "m2"]
    await served.store.act(Action.RELEASE, (*entries[0], *entries[1]), actor="test")
    await served.store.act(Action.HOLD, (*entries[2], *entries[3], *entries[4], *entries[5]), actor="test")
    gone = await follow(served, third.pagination["previous"])
    assert gone.messages == []
    assert subjects(await follow(served, gone.pagination["next"])) == ["m1", "m0"]


@pytest.mark.parametrize(
    ("asked", "rows"),
    [(2, 2), ("2", 2), (2.0, 2), (0, 1), (-5, 1), (3, 3), (500, 3), ("500", 3), (10**30, 3), (None, 3), ("", 3)],
)
async def test_sizes_are_clamped_to_the_maximum(serve: Serve, asked: Any, rows: int) -> None:
    served = await serve(api=Api(page_size=3))
    await fill(served, 4)
    answer = await served.find({}, pageSize=asked)
    assert len(answer.messages) == answer.pagination["pageSize"] == rows


async def test_a_hundred_is_default_and_maximum(served: Served) -> None:
    recipients = [f"r{number}@corp.example" for number in range(101)]
    await served.put(*recipients)
    for pagination in ({}, {"pageSize": 1000}):
        answer = await served.find({}, **pagination)
        assert answer.pagination["pageSize"] == len(answer.messages) == 100
        assert answer.pagination["totalCount"] == 101
        assert len((await follow(served, answer.pagination["next"])).messages) == 1


@pytest.mark.parametrize("wrong", ["many", [], True, 1.5])
async def test_a_size_that_is_no_number_is_told(served: Served, wrong: Any) -> None:
    answer = await served.find({}, pageSize=wrong)
    (fault,) = answer.json["fail"][0]["errors"]
    assert (fault["field"], fault["message"]) == ("pageSize", "Field must be a number from 1 to 100")


async def test_the_token_keeps_size_and_query_whatever_comes_with_it(served: Served) -> None:
    await fill(served, 5)
    await served.put(subject="other", sender="zoe@example.org")
    token = (await served.find({"searchBy": {"fieldName": "subject", "value": "M"}}, pageSize=2)).pagination["next"]
    quirks: list[dict[str, Any]] = [
        {"meta": {"pagination": {"page_size": None, "pageToken": token}}, "data": [{"sortOrder": None}]},
        {
            "meta": {"pagination": {"pageSize": 50, "pageToken": token}},
            "data": [{"sortOrder": "asc", "type": "bulk_processing"}],
        },
        {"meta": {"pagination": {"pageToken": token}}},
        {"data": [{"meta": {"pagination": {"pageToken": token}}}]},
        {"data": [{"pagination": {"pageToken": token}}]},
        {"meta": {}, "data": {"pagination": {"pageToken": token + "="}}},
        {"meta": {"pagination": None}, "data": [{"pagination": {"pageToken": token}}]},
    ]
    for quirk in quirks:
        answer = await served.post(FIND, served.signed(), repr(quirk).encode())
        assert subjects(answer) == ["m2", "m1"], quirk
        assert answer.pagination["totalCount"] == 5


@pytest.mark.parametrize("pagination", [{}, {"pageToken": ""}, {"pageToken": None, "pageSize": None}, None])
async def test_pagination_that_says_nothing_is_page_one(served: Served, pagination: Any) -> None:
    await fill(served, 2)
    body = json.dumps({"meta": {"pagination": pagination}, "data": [{}]}).encode()
    assert subjects(await served.post(FIND, served.signed(), body)) == ["m1", "m0"]


@pytest.mark.parametrize("empty", [{}, {"pageSize": None}, {"pageToken": ""}, None, "", []])
async def test_pagination_inside_the_item_counts_when_there_is_none_at_the_top(served: Served, empty: Any) -> None:
    """Clients leave an empty one at the top when they put it into the item (contract sections 4 and 6.5)."""
    await served.put(*[f"r{number}@corp.example" for number in range(3)])
    for item in ({"meta": {"pagination": {"pageSize": 2}}}, {"pagination": {"pageSize": 2}}):
        body = json.dumps({"meta": {"pagination": empty}, "data": [item]}).encode()
        answer = await served.post(FIND, served.signed(), body)
        assert answer.pagination["pageSize"] == 2
    both = {"meta": {"pagination": {"pageSize": 1}}, "data": [{"pagination": {"pageSize": 2}}]}
    assert (await served.post(FIND, served.signed(), json.dumps(both).encode())).pagination["pageSize"] == 1


async def test_a_token_that_is_not_ours_is_invalid(served: Served) -> None:
    await fill(served, 3)
    token = (await served.find({}, pageSize=1)).pagination["next"]
    sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    forged = base64.urlsafe_b64encode(sealed[:-1] + bytes([sealed[-1] ^ 1])).decode()
    for wrong in ("x", forged, token[:-4], token[8:], token + token, "x" * 10_000, "ünsinn", "!!!!"):
        answer = await follow(served, wrong)
        assert (answer.status, answer.body) == (200, golden("token_invalid")), wrong
    answer = await served.find({}, pageToken=7)
    assert (answer.status, answer.body) == (200, golden("token_invalid"))


async def test_a_token_is_good_for_its_application_only(served: Served) -> None:
    await fill(served, 3)
    token = (await served.find({}, pageSize=1)).pagination["next"]
    body = json.dumps({"meta": {"pagination": {"pageToken": token}}}).encode()
    answer = await served.post(FIND, served.signed(role=identity.MONITOR), body)
    assert answer.body == golden("token_invalid")


async def test_a_token_expires_and_each_page_gives_a_fresh_one(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await fill(served, 4)
    first = await served.find({}, pageSize=1)
    served.clock.move(HOUR - 1)
    second = await follow(served, first.pagination["next"])
    assert subjects(second) == ["m2"]
    served.clock.move(1)
    answer = await follow(served, first.pagination["next"])
    assert (answer.status, answer.body) == (200, golden("token_expired"))
    assert subjects(await follow(served, second.pagination["next"])) == ["m1"]


async def test_the_default_window_does_not_move_under_the_pages(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await fill(served, 3)
    served.clock.move(7 * 24 * HOUR - 1)
    first = await served.find({}, pageSize=2)
    served.clock.move(HOUR // 2)
    assert subjects(await follow(served, first.pagination["next"])) == ["m0"]


def test_no_two_tokens_share_a_nonce() -> None:
    """AES-GCM gives its key away when one is used twice (NIST SP 800-38D 8)."""
    seals = [TokenSeal(Sealer(bytes(32)), "a purpose") for _ in range(2)]
    nonces = {base64.urlsafe_b64decode(seal.seal(b"", "")[:16]) for seal in seals for _ in range(300)}
    assert len(nonces) == 600
    assert {len(nonce) for nonce in nonces} == {12}
