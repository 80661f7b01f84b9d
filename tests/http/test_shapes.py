"""The request shapes that real clients send to this path (contract 6.3), rebuilt here and replayed: each gets rows.

Also the clients' habits of contract 6.4 and 6.5 that are not a matter of the body's spelling.
"""

from __future__ import annotations

import base64
import json
import uuid
from email.utils import formatdate
from typing import Any

import pytest

from postroom.model import Queue, Route
from postroom.store.access import identity
from tests.http.conftest import FIND, Answer, Served, request_bytes, talk
from tests.http.test_paging import follow

SEED = {  # the vendor's own sample, its placeholders filled in
    "sortOrder": "ascending",
    "start": "2027-01-14T14:49:18+0000",
    "searchBy": {"value": "report", "fieldName": "subject"},
    "end": "2027-01-16T14:49:18+0000",
    "sortBy": "createTime",
    "type": "processing",
    "filterBy": [{"value": "inbound", "fieldName": "route"}],
}
BOUNDARY = "--------------------------514976410829117268372510"


def multipart(item: str) -> bytes:
    """As the Postman app writes a form-data field."""
    return (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data"\r\n\r\n{item}\r\n--{BOUNDARY}--\r\n').encode()


JAVA = b"""{
 "data": [
     {
         "sortOrder": "ascending",
         "start": "2027-01-14T14:49:18+0000",
         "searchBy": {
             "value": "report",
             "fieldName": "subject",
         },
         "end": "2027-01-16T14:49:18+0000",
         "sortBy": "createTime",
         "type": "processing",
         "filterBy": [
             {
                 "value": "inbound",
                 "fieldName": "route",
             },
         ],
     },
 ],
}"""

# client, headers beside the credentials, body
SHAPES: list[tuple[str, dict[str, str], bytes]] = [
    ("seed Python: the repr of a dict", {"Content-Type": "application/json"}, repr({"data": [SEED]}).encode()),
    (
        "seed C#, PowerShell, HTTP: JSON", {"Content-Type": "application/json"},
        json.dumps({"data": [SEED]}, indent=1).encode(),
    ),
    ("seed Java: trailing commas", {"Content-Type": "application/json"}, JAVA),
    ("XSOAR 2022: no argument", {"Content-Type": "application/json"},
     json.dumps({"meta": {"pagination": {"page_size": 20}}, "data": [{"sortOrder": None}]}).encode()),
    ("XSOAR 2022: everything", {"Content-Type": "application/json"},
     json.dumps({"meta": {"pagination": {"page_size": 20}}, "data": [{
         "sortOrder": "descending", "end": "2027-01-16T14:49:18+00:00", "start": "2027-01-14T13:25:17.123456",
         "searchBy": {"fieldName": "ALL", "value": "report"}, "filterBy": [{"attachments": None, "route": "inbound"}],
     }]}).encode()),
    ("XSOAR 2022: attachments only", {"Content-Type": "application/json"},
     json.dumps({"meta": {"pagination": {"page_size": 20}}, "data": [{
         "sortOrder": None, "filterBy": [{"attachments": True, "route": None}],
     }]}).encode()),
    ("XSOAR newest: a page size, no data", {"Content-Type": "application/json", "Accept": "application/json"},
     json.dumps({"meta": {"pagination": {"pageSize": 20}}}).encode()),
    ("XSOAR newest: asc, relative start", {"Content-Type": "application/json", "Accept": "application/json"},
     json.dumps({"meta": {"pagination": {"pageSize": 20}}, "data": [{
         "sortOrder": "asc", "start": "2027-01-14T13:25:17.123456",
     }]}).encode()),
    ("ecpunk Postman: a form field that holds the object",
     {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
     multipart(json.dumps(SEED, indent=4))),
    ("the same under a JSON header", {"Content-Type": "application/json"}, multipart(json.dumps(SEED))),
    ("gh-tking Postman: JSON mode, empty body", {"Content-Type": "application/json"}, b""),
    ("ecpunk action pack: an empty object", {"Content-Type": "application/json"}, b"{}"),
    ("generic: an empty list", {"Content-Type": "application/json"}, b'{"data": []}'),
    ("generic: an empty item", {"Content-Type": "application/json; charset=utf-8"}, b'{"data": [{}]}'),
    (
        "generic: pagination without data", {"Content-Type": "application/json"},
        b'{"meta": {"pagination": {"pageSize": 25}}}',
    ),
    ("Rapid7 old: the repr of a dict", {"Content-Type": "application/json"},
     repr({"meta": {"pagination": {"pageSize": 100}}, "data": [{"type": "processing", "start": None}]}).encode()),
    ("Rapid7 new: no body and no Content-Type", {}, b""),
    ("Rapid7 newest: meta inside data", {"Content-Type": "application/json"},
     json.dumps({"data": [{"meta": {"pagination": {"pageSize": 50}}, "type": "processing"}]}).encode()),
    ("mimecast-sdk: pageSize null", {"Content-Type": "application/json"},
     json.dumps({"meta": {"pagination": {"pageSize": None}}, "data": [{}]}).encode()),
    ("MIMECAST.PS: an empty token", {"Content-Type": "application/json"},
     b'{"meta":{"pagination":{"pageSize":100,"pageToken":""}},"data":[{"searchBy":[{"fieldName":"all","value":"report"}]}]}'),
    ("SOAR v2: the repr of a dict", {"Content-Type": "application/json"},
     repr({"meta": {"pagination": {}}, "data": [{"sortOrder": "descending", "admin": True}]}).encode()),
    ("PowerShell 5: a date of its own, a byte order mark", {"Content-Type": "application/json"},
     b'\xef\xbb\xbf{"data":[{"start":"\\/Date(1799900000000)\\/","filterBy":{"route":"INBOUND","attachments":"true"}}]}'),
    ("gh-tking PowerShell: members that are not there", {"Content-Type": "application/json"},
     b'{"data":[{"id":null,"fromAddress":"a@b.example","toAddress":null,"subject":"x","route":"inbound"}]}'),
]  # fmt: skip
IDS = [name for name, _, _ in SHAPES]


async def fill(served: Served) -> None:
    await served.put(subject="Quarterly report", attachment=True)
    await served.put(subject="elsewhere", queue=Queue.BULK, route=Route.OUTBOUND)


def check_rows(answer: Answer) -> None:
    assert answer.status == 200, answer.body
    assert answer.json["fail"] == [], answer.body
    assert [message["subject"] for message in answer.messages] == ["Quarterly report"]
    assert answer.pagination == {"pageSize": 1, "totalCount": 1}


@pytest.mark.parametrize(("headers", "body"), [shape[1:] for shape in SHAPES], ids=IDS)
async def test_a_shape_of_the_hmac_era_gets_rows(served: Served, headers: dict[str, str], body: bytes) -> None:
    await fill(served)
    signed = served.signed()
    del signed["Content-Type"]
    check_rows(await served.post(FIND, signed | headers, body))


@pytest.mark.parametrize(("headers", "body"), [shape[1:] for shape in SHAPES], ids=IDS)
async def test_a_shape_of_the_oauth_era_gets_rows(served: Served, headers: dict[str, str], body: bytes) -> None:
    await fill(served)
    bearer = {"Authorization": f"Bearer {await served.token()}"}
    check_rows(await served.post(FIND, bearer | headers, body))


async def test_the_path_that_one_client_calls_does_not_exist(served: Served) -> None:
    """gh-tking PowerShell: it cannot work at the vendor either."""
    path = "/api/gateway/get-processing-message-list"
    answer = await served.post(path, await served.bearer(), b'{"data":[{"id":null}]}')
    assert (answer.status, answer.json["fail"][0]["code"]) == (403, "app_forbidden")
    assert (await served.post(path, served.signed(path), b"{}")).status == 404


# -- signing: dates, names, blanks (contract 1.2, 6.4)


def dates(now: int) -> list[str]:
    gmt = formatdate(now, usegmt=True)
    plain = gmt.removesuffix(" GMT")
    one_digit = plain.replace(", 0", ", ")
    return [
        f"{plain} UTC",
        gmt,
        f"{plain} -0000",
        f"{plain} +0000",
        f"{one_digit} UTC",
        formatdate(now + 3600, usegmt=True).replace("GMT", "BST"),
        f"{plain} Z",
    ]


@pytest.mark.parametrize("number", range(7))
async def test_every_date_that_clients_print_is_taken_and_signed_as_sent(served: Served, number: int) -> None:
    await fill(served)
    date = dates(served.clock.now() // 1000)[number]
    check_rows(await served.post(FIND, served.signed(date=date), b"{}"))


async def test_names_of_headers_and_the_realm_come_in_any_case(served: Served) -> None:
    await fill(served)
    headers = served.signed()
    for change in (str.upper, str.lower, str.title):
        check_rows(await served.post(FIND, {change(name): value for name, value in headers.items()}, b"{}"))
    for realm in ("mc ", "Mc ", "MC  "):
        authorization = headers["Authorization"].replace("MC ", realm)
        check_rows(await served.post(FIND, headers | {"Authorization": authorization}, b"{}"))


async def test_blanks_round_the_signature_do_not_count(served: Served) -> None:
    """PSMimecast sends `MC key: signature`."""
    await fill(served)
    headers = served.signed()
    key, _, signature = headers["Authorization"].rpartition(":")
    check_rows(await served.post(FIND, headers | {"Authorization": f"{key}: {signature} "}, b"{}"))


async def test_a_request_id_may_come_again_and_a_read_with_another_body(served: Served) -> None:
    """SOAR v2 reuses one id, date and signature for all its pages; another client repeats the same call."""
    for number in range(3):
        await served.put(subject=f"m{number}")
    headers = served.signed(request_id=str(uuid.uuid4()))
    token, seen = "", []
    for _ in range(2):
        body = {"meta": {"pagination": {"pageSize": 2, **({"pageToken": token} if token else {})}}, "data": [{}]}
        answer = await served.post(FIND, headers, json.dumps(body).encode())
        again = await served.post(FIND, headers, json.dumps(body).encode())
        assert [one["id"] for one in again.messages] == [one["id"] for one in answer.messages]
        seen += [message["subject"] for message in answer.messages]
        token = answer.pagination.get("next", "")
    assert seen == ["m2", "m1", "m0"]


async def test_path_and_query_may_be_signed_and_a_doubled_slash_comes_as_it_is(served: Served) -> None:
    await fill(served)
    check_rows(await served.post(f"{FIND}?a=b", served.signed(f"{FIND}?a=b"), b"{}"))  # the Go client
    check_rows(await served.post(f"{FIND}?a=b", served.signed(FIND), b"{}"))
    check_rows(await served.post(f"/{FIND}", served.signed(f"/{FIND}"), b"{}"))
    check_rows(await served.post(f"/{FIND}", served.signed(FIND), b"{}"))


async def test_the_later_pages_of_xsoar_keep_the_tokens_size(served: Served) -> None:
    for number in range(5):
        await served.put(subject=f"m{number}")
    first = await served.find({"sortOrder": None}, pageSize=2)
    body: dict[str, Any] = {
        "meta": {"pagination": {"page_size": None, "pageToken": first.pagination["next"]}},
        "data": [{"sortOrder": None}],
    }
    second = await served.post(FIND, served.signed(), json.dumps(body).encode())
    assert [message["subject"] for message in second.messages] == ["m2", "m1"]
    assert len((await follow(served, second.pagination["next"])).messages) == 1


async def test_a_page_size_over_the_maximum_leads_to_the_next_page(served: Served) -> None:
    """XSOAR asks for page * page_size in one call, slices the tail, and follows `next` when it got less."""
    await served.put(*[f"r{number}@corp.example" for number in range(120)])
    first = await served.find({}, pageSize=120)
    second = await follow(served, first.pagination["next"])
    assert (len(first.messages), len(second.messages)) == (100, 20)
    assert "next" not in second.pagination


async def test_the_token_call_in_every_form(served: Served) -> None:
    """Form fields in any order, HTTP Basic, the query (contract section 2)."""
    await fill(served)
    keys = served.keys[identity.ADMINISTRATOR]
    form = f"client_secret={keys.client_secret}&grant_type=client_credentials&scope=&client_id={keys.client_id}"
    basic = base64.b64encode(f"{keys.client_id}:{keys.client_secret}".encode()).decode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for target, headers, body in (
        ("/oauth/token", kind, form),
        ("/oauth/token", kind | {"Authorization": f"Basic {basic}"}, "grant_type=client_credentials"),
        (f"/oauth/token?{form}", {}, ""),
    ):
        answer = await talk(served.address, request_bytes("POST", target, headers, body.encode()))
        assert answer.status == 200, answer.body
        assert list(answer.json) == ["access_token", "token_type", "expires_in", "scope"]
        assert (answer.json["token_type"], answer.json["expires_in"], answer.json["scope"]) == ("Bearer", 1799, "")
        check_rows(await served.post(FIND, {"Authorization": f"Bearer {answer.json['access_token']}"}))
