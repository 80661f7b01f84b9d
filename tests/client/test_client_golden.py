"""What our own client makes of the golden answers that the server tests compare with."""

from __future__ import annotations

import pytest
from tests import exchange

import postroom_client
from postroom_client import ApiError
from postroom_client.exchange import Answer, Request, judge
from postroom_client.message import Page

EXCHANGES = {name: one for name, one in exchange.exchanges().items() if one.client}
REQUEST = Request("/api/gateway/find-processing-messages", b"{}", "sent", {})


def judged(one: exchange.Exchange) -> Page | ApiError:
    try:
        return judge(REQUEST, Answer(one.status, one.headers, one.body))
    except ApiError as problem:
        return problem


def in_words(found: Page | ApiError) -> str:
    if isinstance(found, ApiError):
        return type(found).__name__
    return f"page of {len(found.messages)}{' and more' if found.next_token else ''}"


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_client_reads_the_golden_answer(name: str) -> None:
    one = EXCHANGES[name]
    found = judged(one)
    assert in_words(found) == one.client
    assert found.request_id == "golden"
    if isinstance(found, ApiError):
        assert found.status == one.status
        assert found.code in one.body.decode()


def test_every_kind_of_error_has_its_golden_answer() -> None:
    shown = {one.client for one in EXCHANGES.values()}
    kinds = {
        "AuthenticationError",
        "InvalidApplication",
        "BindingExpired",
        "PermissionDenied",
        "InvalidRequest",
        "InvalidToken",
        "RateLimited",
    }
    assert kinds <= shown
    assert all(hasattr(postroom_client, kind) for kind in kinds)
