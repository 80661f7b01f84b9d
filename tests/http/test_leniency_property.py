"""Leniency, by generated cases: every spelling of a request means the same, no bytes break anything (contract 6.4).

Every test here always draws the same cases; `generated` counts them, and the run prints the sum.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from postroom.clock import DAY
from postroom.http.door.auth import Caller
from postroom.http.gateway.call import read_call
from postroom.http.gateway.paging.tokens import PageRefused, read_asked
from postroom.http.gateway.wire.entries import BadItem, Query, read_query
from postroom.http.gateway.wire.envelope import Failure, ItemFailure, answer
from postroom.http.gateway.wire.lenient import UnreadableBody, read_body
from postroom.model import Field, Filter, Order, Queue, Route
from postroom.store.access.identity import Role
from tests.http.conftest import FIND, START, Answer, Served
from tests.http.dialects import SPELT, Meaning, plain
from tests.http.generated import generated

APP = Caller("app", "test", Role("administrator", ("*",)))
NEAR = st.text(alphabet="{}[]'\":,\\ nulltruexU0123456789.-e\n\x00\xa0é\U0001f600", max_size=120).map(str.encode)
BYTES = st.binary(max_size=400) | NEAR

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
KNOWN = st.sampled_from(
    [
        "sortOrder", "sortBy", "type", "start", "end", "searchBy", "filterBy", "fieldName", "value", "route",
        "attachments", "meta", "pagination", "pageSize", "pageToken", "data", "other",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    ["asc", "createTime", "processing", "all", "subject", "inbound", "true", "2026-11-22T10:00:00Z", "/Date(0)/"]
)
ITEMS = st.recursive(
    SIMPLE | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=6), max_leaves=6
)


def understood(data: bytes) -> tuple[Query, int]:
    """What the gateway makes of a body."""
    call = read_call(APP, "", read_body(data))
    asked = read_asked(call.body, call.items, 100)
    (item,) = call.items
    return read_query(item, START), asked.size


def meant(meaning: Meaning) -> tuple[Query, int]:
    """The same in the gateway's own words, written down here once more."""
    routes = () if "all" in meaning.routes else tuple(sorted(Route(route) for route in meaning.routes))
    field = Field.ALL if not meaning.text else Field(
        {"ALL": "all", "fromAddress": "from", "toAddress": "to", "remoteIp": "ip"}.get(meaning.field, meaning.field)
    )  # fmt: skip
    wanted = Filter(
        queues=(Queue.BULK if meaning.bulk else Queue.PROCESSING,),
        routes=routes,
        attachment=meaning.attachment,
        since=START - 7 * DAY if meaning.start is None else meaning.start * 1000,
        until=START if meaning.end is None else meaning.end * 1000 + 999,
        text=meaning.text,
        field=field,
    )
    return Query(wanted, Order.NEWEST if meaning.newest else Order.OLDEST), meaning.size or 100


@generated(3000, "dialects of one meaning")
@given(SPELT)
def test_every_spelling_means_the_same(said: tuple[Meaning, bytes]) -> None:
    meaning, data = said
    assert understood(data) == understood(json.dumps(plain(meaning)).encode()) == meant(meaning)


@generated(4000, "any bytes for the reader")
@given(BYTES)
def test_no_bytes_break_the_reader_and_what_it_reads_can_be_written(data: bytes) -> None:
    try:
        said = json.dumps(read_body(data), allow_nan=False)
    except UnreadableBody as problem:
        said = str(problem)
        expected = "expected" in said and len(said) < 300
    else:
        expected = said.isascii()
    assert expected, said


def outcome(value: Any) -> Query | Failure | PageRefused | BadItem:
    """What the function makes of a value in the place of an item, and of the pagination."""
    body = json.loads(json.dumps({"data": [value], "meta": value}))
    try:
        call = read_call(APP, "", body)
        read_asked(call.body, call.items, 100)
        return read_query(call.items[0], START)
    except (Failure, PageRefused, BadItem) as problem:
        return problem


@generated(1500, "any values for the function")
@given(ITEMS)
def test_any_value_is_a_query_or_says_what_is_wrong_with_which_field(value: Any) -> None:
    found = outcome(value)
    if isinstance(found, PageRefused):
        assert found.fault.code in ("xdk_failure", "err_validation_value_not_allowed")
    elif isinstance(found, BadItem):
        assert found.faults
        for fault in found.faults:
            assert isinstance(fault.field, str)
            assert fault.message.startswith("Field must be ")
        written = json.loads(answer([], [ItemFailure(value, found.faults)], None))
        assert list(written) == ["meta", "data", "fail"]
        assert "key" in written["fail"][0] or value is None
    else:
        assert isinstance(found, Query)


def check_envelope(given_answer: Answer) -> None:
    """Contract section 3, of whatever the answer says."""
    assert given_answer.status in (200, 400, 413), given_answer.body
    envelope = given_answer.json
    assert list(envelope) == ["meta", "data", "fail"]
    assert envelope["meta"]["status"] == given_answer.status
    assert isinstance(envelope["data"], list)
    assert given_answer.headers["content-type"] == "application/json"
    assert "x-request-id" in given_answer.headers
    assert int(given_answer.headers["x-ratelimit-remaining"]) >= 0
    for failed in envelope["fail"]:
        assert list(failed) in (["errors"], ["key", "errors"])
        for error in failed["errors"]:
            assert [name for name in error if name != "field"] == ["code", "message", "retryable"]


@generated(600, "any bytes for the whole gateway", suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=BYTES | SPELT.map(lambda said: said[1]) | ITEMS.map(lambda value: json.dumps({"data": [value]}).encode()))
async def test_any_body_gets_an_envelope(served: Served, data: bytes) -> None:
    answer = await served.post(FIND, served.signed(), data)
    check_envelope(answer)
    assert not [line for line in served.told.lines if "http_failed" in line]
