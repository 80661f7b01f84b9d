"""What is sent, and which arguments never are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from postroom_client.query import query


def item(**arguments: Any) -> dict[str, Any]:
    sent = json.loads(query(**arguments).body(None))
    assert len(sent["data"]) == 1
    result: dict[str, Any] = sent["data"][0]
    return result


def test_nothing_asked_still_gives_one_option() -> None:
    assert item() == {"sortOrder": "descending", "type": "processing"}


def test_everything_asked() -> None:
    assert item(
        start=datetime(2015, 11, 16, 14, 49, 18, tzinfo=UTC),
        end=datetime(2015, 11, 16, 17, 49, 18, 999999, tzinfo=timezone(timedelta(hours=2))),
        search=("subject", "Überweisung"),
        route="outbound",
        attachments=False,
        type="bulk_processing",
        newest_first=False,
    ) == {
        "sortOrder": "ascending",
        "type": "bulk_processing",
        "start": "2015-11-16T14:49:18+0000",
        "end": "2015-11-16T15:49:18+0000",
        "searchBy": {"fieldName": "subject", "value": "Überweisung"},
        "filterBy": [{"route": "outbound", "attachments": False}],
    }


def test_text_alone_is_looked_for_everywhere() -> None:
    assert item(search="invoice")["searchBy"] == {"fieldName": "ALL", "value": "invoice"}
    assert item(search=("all", "invoice"))["searchBy"] == {"fieldName": "ALL", "value": "invoice"}


def test_later_pages_repeat_the_question() -> None:
    asked = query(search="x", page_size=7)
    first, second = json.loads(asked.body(None)), json.loads(asked.body("T"))
    assert first["meta"] == {"pagination": {"pageSize": 7}}
    assert second == {"meta": {"pagination": {"pageSize": 7, "pageToken": "T"}}, "data": first["data"]}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("start", {"start": datetime(2015, 11, 16)}),
        ("start", {"start": datetime(2016, 1, 1, tzinfo=UTC), "end": datetime(2015, 1, 1, tzinfo=UTC)}),
        ("search", {"search": ("from", "x")}),
        ("search", {"search": ""}),
        ("route", {"route": "sideways"}),
        ("type", {"type": "delivery"}),
        ("page_size", {"page_size": 0}),
        ("page_size", {"page_size": True}),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        query(**arguments)


def test_attachments_is_a_truth_not_a_word() -> None:
    with pytest.raises(TypeError, match="attachments"):
        query(attachments="true")  # type: ignore[arg-type]
