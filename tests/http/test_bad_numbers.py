"""Values at the edges of what a body can say: an answer of the function, never a 500."""

from __future__ import annotations

import pytest

from tests.http.conftest import Served


@pytest.mark.parametrize(
    "item",
    [
        {"end": "9999-12-31T23:59:59+0000"},  # what clients write for "no end"
        {"start": "2020-01-01T00:00:00Z", "end": "9999-12-31T23:59:59-1400"},
        {"end": "/Date(253402300799000)/"},
        {"end": "/Date(999999999999999)/"},
        {"start": "/Date(-999999999999999)/"},
    ],
)
async def test_a_date_far_away_is_answered(served: Served, item: dict[str, str]) -> None:
    await served.put("bob@corp.example")
    answer = await served.find(item)
    assert answer.status == 200
    assert len(answer.messages) == 1


@pytest.mark.parametrize("size", ["--5", "-", "5-", "-5-", " --1 "])
async def test_a_page_size_that_is_no_number_is_told_so(served: Served, size: str) -> None:
    answer = await served.find({}, pageSize=size)
    assert answer.status == 200
    assert answer.json["fail"][0]["errors"][0]["field"] == "pageSize"
