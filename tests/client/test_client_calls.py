"""Both clients against a real HTTP server that answers as the vendor was recorded."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from scripted_vendor import (
    BINDING_EXPIRED,
    CREDENTIALS,
    INVALID_APPLICATION,
    INVALID_SIGNATURE,
    NOTHING,
    PATH,
    Scripted,
    ScriptedVendor,
    failure,
    page,
    recorded_item,
)

from postroom_client import (
    Address,
    ApiError,
    AsyncClient,
    AuthenticationError,
    BindingExpired,
    Client,
    ConnectionFailed,
    InvalidApplication,
    InvalidRequest,
    InvalidToken,
    PermissionDenied,
    PostroomClientError,
    RateLimited,
    Retries,
    ServerFailed,
    UnexpectedAnswer,
)


def numbered(*numbers: int) -> list[dict[str, object]]:
    return [recorded_item(id=f"id-{number}") for number in numbers]


def test_a_recorded_message_is_read_completely(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(page([recorded_item(somethingNew={"x": 1})]))
    (message,) = client.find_processing_messages()
    assert message.from_env == Address("alice@corp.example")
    assert message.from_header == Address("alice@corp.example")
    assert message.to == Address("bob@example.org")
    assert (message.subject, message.attachment, message.routing) == ("Quarterly report", True, "outbound")
    assert (message.size, message.remote_ip, message.attempts) == (64342, "192.0.2.10", 2)
    assert message.created == datetime(2022, 7, 28, 10, 46, 54, tzinfo=UTC)
    assert message.next_attempt == datetime(2022, 7, 28, 10, 47, 54, tzinfo=UTC)
    assert message.locked_until is None
    assert (message.info, message.priority) == ("Waiting for a scan result", "normal")
    assert message.raw["somethingNew"] == {"x": 1}
    assert vendor.seen[0].path == PATH
    assert vendor.seen[0].signed


def test_both_spellings_of_the_vendors_page_are_read(vendor: ScriptedVendor, client: Client) -> None:
    item = recorded_item(
        to={"emailAddress": "bob@example.org", "displayName": "Bob"},
        fromHeader={"emailAddress": "alice@corp.example", "displayableName": "Alice Ō"},
        remoteIP="192.0.2.11",
        lockedUntil="2022-07-28T11:46:54+0200",
    )
    del item["remoteIp"]
    vendor.script(page([item]))
    (message,) = client.find_processing_messages()
    assert str(message.to) == "Bob <bob@example.org>"
    assert message.from_header.name == "Alice Ō"
    assert message.remote_ip == "192.0.2.11"
    assert message.locked_until == datetime(2022, 7, 28, 9, 46, 54, tzinfo=UTC)


def test_lights(vendor: ScriptedVendor, client: Client) -> None:
    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    later, earlier = "2026-01-01T12:00:30Z", "2026-01-01T11:59:30"
    vendor.script(
        page(
            [
                recorded_item(nextAttempt=later, lockedUntil=later),
                recorded_item(nextAttempt=earlier, lockedUntil=earlier),
                recorded_item(nextAttempt=later),
            ]
        )
    )
    assert [message.light(now) for message in client.find_processing_messages()] == ["locked", "delayed", "normal"]


def test_pages_are_asked_for_when_wanted(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(
        page(numbered(1, 2), total=5, next="T1"),
        page(numbered(3, 4), total=5, next="T2", previous="T0"),
        page(numbered(5), total=5, previous="T1"),
    )
    found = iter(client.find_processing_messages(page_size=2))
    assert not vendor.seen
    assert [next(found).id, next(found).id] == ["id-1", "id-2"]
    assert len(vendor.seen) == 1
    assert [message.id for message in found] == ["id-3", "id-4", "id-5"]
    asked = [seen.body["meta"]["pagination"] for seen in vendor.seen]
    assert asked == [
        {"pageSize": 2},
        {"pageSize": 2, "pageToken": "T1"},
        {"pageSize": 2, "pageToken": "T2"},
    ]
    assert len({seen.headers["x-mc-req-id"] for seen in vendor.seen}) == 3


def test_pages_and_total(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(
        page(numbered(1), total=2, next="T"), page(numbered(1), total=2, next="T"), page(numbered(2), total=2)
    )
    listing = client.find_processing_messages()
    assert listing.total_count() == 2
    assert [(len(found.messages), found.next_token) for found in listing.pages()] == [(1, "T"), (1, None)]


def test_nothing_found_is_none_at_all(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(NOTHING)
    listing = client.find_processing_messages()
    assert list(listing) == []
    assert listing.total_count() == 0


def test_an_answer_without_pagination_is_one_page(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script('{"fail":[],"meta":{"status":200},"data":[{"messages":[{"id":"only"}]}]}')
    listing = client.find_processing_messages()
    assert [message.id for message in listing] == ["only"]
    assert listing.total_count() == 1


def test_a_page_that_follows_itself_is_refused(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(page(numbered(1), total=9, next="T"))
    with pytest.raises(UnexpectedAnswer, match="next page is itself"):
        list(client.find_processing_messages())


def test_a_wrong_secret_is_told_as_such(vendor: ScriptedVendor, client: Client) -> None:
    vendor.secret = b"another secret"
    with pytest.raises(AuthenticationError) as caught:
        list(client.find_processing_messages())
    error = caught.value
    assert (error.status, error.code, error.message) == (401, "err_xdk_invalid_signature", "0004 Invalid Signature")
    assert error.retryable is False
    assert error.request_id == vendor.seen[0].headers["x-mc-req-id"]
    assert len(vendor.seen) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (Scripted(BINDING_EXPIRED, 418), BindingExpired, "err_xdk_binding_expired"),
        (Scripted(INVALID_SIGNATURE, 401), AuthenticationError, "err_xdk_invalid_signature"),
        (Scripted(failure("err_validation_null", "This field is mandatory", field="x")), InvalidRequest, None),
        (Scripted(failure("xdk_failure", "0007 Invalid token")), InvalidToken, "xdk_failure"),
        (Scripted("", 400), InvalidRequest, "http_400"),
        (Scripted(failure("err_xdk_operation_forbidden_for_address", "0003 Forbidden")), PermissionDenied, None),
        (Scripted("{}", 403), PermissionDenied, "http_403"),
        (
            Scripted('{"fail":[{"code":"token_expired","message":"Access Token Expired"}]}', 401),
            AuthenticationError,
            "token_expired",
        ),
        (
            Scripted('{"fail":[{"code":"app_forbidden","message":"no"}],"meta":{"status":403}}', 404),
            PermissionDenied,
            None,
        ),
        (Scripted(failure("err_something_new", "?")), ApiError, "err_something_new"),
        (Scripted('{"meta":{"status":200},"data":[],"fail":["?"]}'), ApiError, "unknown"),
        (Scripted("<html>gone</html>", 404), UnexpectedAnswer, "http_404"),
        (Scripted("<html>login here</html>", 200), UnexpectedAnswer, "unexpected_answer"),
        (Scripted("", 302, {"Location": "/elsewhere"}), UnexpectedAnswer, "http_302"),
        (Scripted('{"meta":{},"data":[{"messages":[{}]}],"fail":[]}'), UnexpectedAnswer, "unexpected_answer"),
        (Scripted('{"meta":{},"data":[{"messages":[{"id":"1","created":"soon"}]}],"fail":[]}'), UnexpectedAnswer, None),
        (Scripted('{"meta":{},"data":[{"messages":3}],"fail":[]}'), UnexpectedAnswer, None),
        (Scripted("[" * 100_000, 200), UnexpectedAnswer, None),
        (Scripted("oops", 500), ServerFailed, "http_500"),
    ],
)
def test_every_failure_has_its_type_and_is_not_repeated(
    vendor: ScriptedVendor, client: Client, answer: Scripted, kind: type[ApiError], code: str | None
) -> None:
    vendor.script(answer)
    with pytest.raises(kind) as caught:
        list(client.find_processing_messages())
    assert type(caught.value) is kind
    assert code is None or caught.value.code == code
    assert len(vendor.seen) == 1


def test_a_failure_says_which_field_and_which_request(vendor: ScriptedVendor, client: Client) -> None:
    body = failure("err_validation_value_not_allowed", "Field must be one of [a,b]", field="type")
    vendor.script(Scripted(body, headers={"X-Request-Id": "req-77"}))
    with pytest.raises(InvalidRequest) as caught:
        list(client.find_processing_messages())
    assert caught.value.field == "type"
    assert caught.value.request_id == "req-77"
    assert str(caught.value) == (
        "err_validation_value_not_allowed: Field must be one of [a,b] (type) [HTTP 200, request req-77]"
    )


def test_an_application_id_is_tried_twice(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(INVALID_APPLICATION, page(numbered(1)))
    assert [message.id for message in client.find_processing_messages()] == ["id-1"]
    vendor.script(INVALID_APPLICATION)
    with pytest.raises(InvalidApplication, match="App ID is invalid"):
        list(client.find_processing_messages())
    assert len(vendor.seen) == 4


def test_a_full_rate_window_is_waited_out(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(Scripted(failure("x", "y"), 429, {"X-RateLimit-Reset": "120", "Retry-After": "9"}), page(numbered(1)))
    begun = time.monotonic()
    assert client.find_processing_messages().total_count() == 1
    assert 0.12 <= time.monotonic() - begun < 5  # milliseconds, and before Retry-After's seconds
    first, second = vendor.seen
    assert first.headers["x-mc-req-id"] != second.headers["x-mc-req-id"]
    assert second.signed


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        (lambda: {"Retry-After": "3600"}, 3600, 3600),
        (lambda: {"X-RateLimit-Reset": "90000"}, 90, 90),
        (lambda: {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}, 3500, 3600),
    ],
)
def test_a_wait_beyond_patience_is_told(
    vendor: ScriptedVendor, client: Client, headers: Callable[[], dict[str, str]], low: float, high: float
) -> None:
    vendor.script(Scripted("{}", 429, headers()))
    with pytest.raises(RateLimited) as caught:
        list(client.find_processing_messages())
    assert caught.value.wait is not None
    assert low <= caught.value.wait <= high
    assert len(vendor.seen) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_that_is_away_is_asked_again(vendor: ScriptedVendor, client: Client, status: int) -> None:
    vendor.script(Scripted("<html>", status), Scripted("<html>", status), page(numbered(1)))
    assert client.find_processing_messages().total_count() == 1
    vendor.script(Scripted("<html>", status))
    with pytest.raises(ServerFailed):
        client.find_processing_messages().total_count()
    assert len(vendor.seen) == 6


def test_a_cut_connection_is_tried_again(vendor: ScriptedVendor, client: Client) -> None:
    vendor.script(Scripted(hang_up=True), page(numbered(1)))
    assert client.find_processing_messages().total_count() == 1
    vendor.script(Scripted(hang_up=True))
    with pytest.raises(ConnectionFailed, match="RemoteProtocolError"):
        client.find_processing_messages().total_count()
    assert len(vendor.seen) == 5


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def test_nobody_there() -> None:
    retries = Retries(attempts=2, first_wait=0)
    with (
        Client(f"http://127.0.0.1:{closed_port()}", CREDENTIALS, retries=retries) as client,
        pytest.raises(ConnectionFailed, match="no answer"),
    ):
        list(client.find_processing_messages())


def test_no_secret_is_in_an_error(vendor: ScriptedVendor, client: Client) -> None:
    answers = [
        Scripted(INVALID_SIGNATURE, 401),
        Scripted("", 400),
        Scripted("<html>", 200),
        Scripted(hang_up=True),
    ]
    for answer in answers:
        vendor.script(answer)
        with pytest.raises(PostroomClientError) as caught:
            list(client.find_processing_messages())
        sent = vendor.seen[-1].headers["authorization"].rpartition(":")[2]
        for text in (str(caught.value), repr(caught.value), repr(vars(caught.value))):
            for secret in (CREDENTIALS.app_key, CREDENTIALS.access_key, CREDENTIALS.secret_key, sent):
                assert secret not in text


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_wait": -1.0}, {"longest_wait": -1.0}])
def test_retries_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retries"):
        Retries(**wrong)  # type: ignore[arg-type]


async def test_the_async_client_does_the_same(vendor: ScriptedVendor) -> None:
    vendor.script(
        Scripted(hang_up=True),
        Scripted("{}", 429, {"X-RateLimit-Reset": "1"}),
        page(numbered(1, 2), total=3, next="T"),
        page(numbered(3), total=3, previous="P"),
        Scripted(failure("err_validation_null", "mandatory", field="type")),
    )
    retries = Retries(attempts=3, first_wait=0.001)
    async with AsyncClient(vendor.url, CREDENTIALS, retries=retries) as client:
        listing = client.find_processing_messages(route="outbound", page_size=2)
        assert [message.id async for message in listing] == ["id-1", "id-2", "id-3"]
        with pytest.raises(InvalidRequest):
            await listing.total_count()
    assert all(seen.signed for seen in vendor.seen)
    assert vendor.seen[-1].body["data"] == [
        {"sortOrder": "descending", "type": "processing", "filterBy": [{"route": "outbound"}]}
    ]


async def test_the_async_client_tells_that_nobody_is_there() -> None:
    retries = Retries(attempts=1)
    async with AsyncClient(f"http://127.0.0.1:{closed_port()}", CREDENTIALS, retries=retries) as client:
        with pytest.raises(ConnectionFailed):
            await client.find_processing_messages().total_count()


def test_a_transport_of_ones_own(vendor: ScriptedVendor) -> None:
    vendor.script(page(numbered(1)))
    http = httpx.Client(headers={"User-Agent": "nightly report"})
    with Client(vendor.url + "/", CREDENTIALS, http=http) as client:
        assert client.find_processing_messages().total_count() == 1
    assert vendor.seen[0].headers["user-agent"] == "nightly report"
    assert vendor.seen[0].path == PATH
    assert http.is_closed
