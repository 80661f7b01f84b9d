"""What a broken or hostile server can say: a typed error, never another."""

from __future__ import annotations

import pytest
from scripted_vendor import CREDENTIALS, Scripted, ScriptedVendor, failure, page, recorded_item

from postroom_client import Client, RateLimited, Retries, UnexpectedAnswer
from postroom_client.exchange import _wait_asked_for

LIMITED = failure("err_rate_limit_exceeded", "Too many calls", status=429)


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize("name", ["X-RateLimit-Reset", "Retry-After"])
def test_a_wait_of_very_many_digits_is_no_wait(vendor: ScriptedVendor, client: Client, name: str, digits: int) -> None:
    vendor.script(Scripted(LIMITED, 429, {name: "9" * digits}))
    with pytest.raises(RateLimited) as caught:
        list(client.find_processing_messages())
    assert caught.value.wait is None
    assert len(vendor.seen) == 3


@pytest.mark.parametrize(
    "after",
    [
        "Mon, 01 Jan 2024 00:00:00 +99999999999999", "Mon, 01 Jan 99999999 00:00:00 GMT", "Mon, 99 Foo", "-",
        "a" * 9000, "1e9", "Mon, 01 Jan 0001 00:00:00 +2300", "Fri, 31 Dec 9999 23:59:59 -2300", "\u0663",
    ],
)  # fmt: skip
def test_a_retry_after_that_is_no_date_is_none_at_all(after: str) -> None:
    assert _wait_asked_for({"retry-after": after}) in (None, 0.0) or "9999" in after


def test_a_wait_that_cannot_be_read_leaves_the_other_header_in_force() -> None:
    assert _wait_asked_for({"x-ratelimit-reset": "9" * 400, "retry-after": "3"}) == 3.0
    assert _wait_asked_for({"x-ratelimit-reset": "0250", "retry-after": "3"}) == 0.25


@pytest.mark.parametrize("name", ["created", "nextAttempt", "lockedUntil"])
@pytest.mark.parametrize("date", ["0001-01-01T00:00:00+0500", "9999-12-31T23:59:59-0500"])
def test_a_date_beyond_the_calendar_is_an_unexpected_answer(
    vendor: ScriptedVendor, client: Client, name: str, date: str
) -> None:
    vendor.script(page([recorded_item(**{name: date})]))
    with pytest.raises(UnexpectedAnswer, match=f"{name} is not a date"):
        list(client.find_processing_messages())


def test_a_code_that_is_no_text_is_unknown(vendor: ScriptedVendor, client: Client) -> None:
    nested = "[" * 400 + "]" * 400
    vendor.script(f'{{"fail":[{{"errors":[{{"code":{nested},"message":{{}}}}]}}],"meta":{{"status":200}},"data":[]}}')
    with pytest.raises(Exception, match="unknown") as caught:
        list(client.find_processing_messages())
    assert "[[" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    ["https://user:hunter2@gw.corp.example", "https://hunter2@gw.corp.example", "https://@gw.corp.example",
     "https://gw.corp.example?token=hunter2", "https://gw.corp.example#hunter2", "https://gw.corp.example:hunter2",
     "https://[hunter2", "hunter2://gw.corp.example", "https://", "gw.corp.example"],
)  # fmt: skip
def test_a_base_url_with_more_than_an_address_is_refused_and_not_repeated(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url: expected") as caught:
        Client(base_url, CREDENTIALS, retries=Retries())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8080/", "https://gw.corp.example", "http://[::1]:8080"])
def test_an_address_alone_is_a_base_url(base_url: str) -> None:
    with Client(base_url, CREDENTIALS) as client:
        assert base_url.rstrip("/") in repr(client)
