"""hold-release and hold-reject (contract section 7): what is done, what is refused, and that nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.http.gateway.release import REJECT, RELEASE
from postroom.http.gateway.wire_held import REASONS
from postroom.model import Outcome, Queue
from postroom.store import identity
from tests.http.conftest import Served
from tests.http.siblings import ask, data, faults, hold, ident


async def queue_of(served: Served, entry: int) -> Queue | None:
    found = await served.store.read(lambda reader: reader.entry(entry))
    return None if found is None else found.queue


async def reply_of(served: Served, entry: int) -> tuple[Outcome, str] | None:
    found = await served.store.read(lambda reader: reader.ended(entry))
    return None if found is None else (found.outcome, found.reply)


async def test_release_lets_mail_go_on_and_says_who_and_why(served: Served) -> None:
    first, second = await hold(served, "a@corp.example", "b@corp.example")
    answer = await ask(
        served,
        RELEASE,
        {"id": ident(served, first)},
        {"id": ident(served, second), "action": "release", "reason": "seen"},
    )
    assert data(answer) == [
        {"id": ident(served, first), "release": True},
        {"id": ident(served, second), "release": True},
    ]
    assert [await queue_of(served, entry) for entry in (first, second)] == [Queue.PROCESSING] * 2
    events = await served.store.read(lambda reader: reader.events(second))
    assert (events[-1].kind, events[-1].actor, events[-1].info) == (
        "released", "app:administrator", "Released by a person: seen",
    )  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"action": "reject", "reason": "spam"}, {"action": "REJECT"}, {"action": ["release"]}, {"action": True},
        {"action": 0}, {"Action": "reject"}, {"reject": True}, {"release": False}, {"notify": True}, {"reason": 5},
        {"reasonType": REASONS[0]}, {"action": "release,reject"}, {"action": {"name": "release"}},
    ],
)  # fmt: skip
async def test_what_is_not_understood_never_releases(served: Served, more: dict[str, Any]) -> None:
    (entry,) = await hold(served)
    (other,) = await hold(served)
    item = {"id": ident(served, entry)} | more
    answer = await ask(served, RELEASE, item, {"id": ident(served, other)})
    assert answer.json["data"] == [{"id": ident(served, other), "release": True}]
    (failed,) = answer.json["fail"]
    assert failed["key"] == item
    assert failed["errors"][0]["code"] == "err_validation_value_not_allowed"
    assert await queue_of(served, entry) is Queue.HELD
    assert await queue_of(served, other) is Queue.PROCESSING


@pytest.mark.parametrize("path", [RELEASE, REJECT])
async def test_what_stands_beside_data_is_refused_too(served: Served, path: str) -> None:
    (entry,) = await hold(served)
    answer = await ask(served, path, {"id": ident(served, entry)}, body={"action": "reject"})
    assert (answer.json["data"], faults(answer)) == ([], [("action", "err_validation_value_not_allowed")])
    assert await queue_of(served, entry) is Queue.HELD


FORM = '--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{"id":"ID"}\r\n'


@pytest.mark.parametrize(
    "body",
    [
        '{"data":[{"id":"ID","action":"reject","action":null}]}',
        "{'data':[{'id':'ID','action':'reject','action':None}]}",
        '{"data":[{"id":"ID","action":"reject"}],"data":[{"id":"ID"}]}',
        'data={"id":"ID"}&action=reject',
        'data={"id":"ID","action":"reject"}&data={"id":"ID"}',
        FORM + '--b\r\nContent-Disposition: form-data; name="action"\r\n\r\nreject\r\n--b--\r\n',
        FORM + FORM.replace('"}', '","action":"reject"}') + "--b--\r\n",
    ],
)
async def test_what_would_be_passed_over_never_releases(served: Served, body: str) -> None:
    """A name that comes twice, a form's field that nobody reads: to keep one of them is to guess."""
    (entry,) = await hold(served)
    answer = await served.post(RELEASE, served.signed(RELEASE), body.replace("ID", ident(served, entry)).encode())
    assert (answer.status, answer.json["data"]) == (400, [])
    assert answer.json["fail"][0]["errors"][0]["code"] == "err_invalid_json"
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize("body", ['data={"id":"ID"}', FORM + "--b--\r\n", FORM + "--b--"])
async def test_a_form_with_nothing_else_releases(served: Served, body: str) -> None:
    (entry,) = await hold(served)
    answer = await served.post(RELEASE, served.signed(RELEASE), body.replace("ID", ident(served, entry)).encode())
    assert [done["release"] for done in data(answer)] == [True]


async def test_release_of_what_is_not_held_says_so(served: Served) -> None:
    (entry,) = (await served.put()).entries
    (held,) = await hold(served)
    once = {"id": ident(served, held)}
    assert [done["release"] for done in data(await ask(served, RELEASE, once, once))] == [True, True]
    answer = await ask(served, RELEASE, {"id": ident(served, entry)}, once, {"id": "no id"}, {"id": None}, {"id": 7})
    assert answer.json["data"] == [
        {"id": ident(served, entry), "release": False}, {"id": ident(served, held), "release": False}
    ]  # fmt: skip
    assert [fail["errors"][0]["message"] for fail in answer.json["fail"]] == [
        "0007 Invalid token",
        "Field is mandatory and must not be null",
        "Field must be an id as text",
        "Message is not held: it is in processing",
        "Message is not held: it is in processing",
    ]


async def test_an_id_that_was_made_up_is_nothing(served: Served) -> None:
    (entry,) = await hold(served)
    text = ident(served, entry)
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for path, item in ((RELEASE, {"id": wrong}), (REJECT, {"ids": [wrong]}), (RELEASE, {"id": format(entry, "x")})):
        answer = await ask(served, path, item)
        assert (answer.json["data"], faults(answer)) == ([], [(None, "xdk_failure")])
    assert await queue_of(served, entry) is Queue.HELD


async def test_one_to_25_items(served: Served) -> None:
    assert faults(await ask(served, RELEASE)) == [("id", "err_validation_null")]
    assert faults(await ask(served, REJECT)) == [("ids", "err_validation_null")]
    assert faults(await ask(served, RELEASE, *[{"id": "x"}] * 26)) == [("data", "err_validation_value_not_allowed")]
    entries = await hold(served, *[f"r{number}@corp.example" for number in range(25)])
    done = data(await ask(served, RELEASE, *[{"id": ident(served, entry)} for entry in entries]))
    assert [one["release"] for one in done] == [True] * 25


@pytest.mark.parametrize("notify", [True, "true", "TRUE", False, "false", None])
async def test_reject_ends_mail_with_its_reason(served: Served, notify: Any) -> None:
    first, second = await hold(served, "a@corp.example", "b@corp.example")
    item = {
        "ids": [ident(served, first), ident(served, second)], "message": "not  ours", "notify": notify,
        "reasonType": "MESSAGE GOES AGAINST EMAIL POLICIES",
    }  # fmt: skip
    assert data(await ask(served, REJECT, item)) == [
        {"id": ident(served, first), "reject": True}, {"id": ident(served, second), "reject": True}
    ]  # fmt: skip
    told = (Outcome.REJECTED, "Rejected by a person: Message goes against email policies: not ours")
    assert [await reply_of(served, entry) for entry in (first, second)] == [told] * 2
    counts = await served.store.read(lambda reader: reader.queue_counts())
    assert counts[Queue.SYSTEM] == (2 if str(notify).lower() == "true" else 0)
    created, ended, queued = await served.store.read(lambda reader: reader.ledger())
    assert sum(created.values()) == sum(ended.values()) + queued


async def test_reject_touches_only_what_is_held(served: Served) -> None:
    (waiting,) = (await served.put()).entries
    (held,) = await hold(served)
    answer = await ask(served, REJECT, {"ids": [ident(served, waiting), ident(served, held), "x"]})
    assert answer.json["data"] == [
        {"id": ident(served, waiting), "reject": False}, {"id": ident(served, held), "reject": True}
    ]  # fmt: skip
    assert [fail["errors"][0]["message"] for fail in answer.json["fail"]] == [
        "Message is not held: it is in processing", "0007 Invalid token",
    ]  # fmt: skip
    assert await queue_of(served, waiting) is Queue.PROCESSING


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"reasonType": "SPAM"}, "reasonType"), ({"notify": "perhaps"}, "notify"), ({"message": "x" * 401}, "message"),
        ({"message": ["x"]}, "message"), ({"message": "a\x00b"}, "message"), ({"action": "release"}, "action"),
        ({"ids": []}, "ids"), ({"ids": None}, "ids"), ({"ids": [None]}, "ids"), ({"ids": [7]}, "ids"),
        ({"ids": ["x"] * 101}, "ids"), ({"ids": {"a": 1}}, "ids"),
    ],
)  # fmt: skip
async def test_a_bad_rejection_does_nothing(served: Served, more: dict[str, Any], field: str) -> None:
    (entry,) = await hold(served)
    answer = await ask(served, REJECT, {"ids": [ident(served, entry)]} | more)
    assert answer.json["data"] == []
    assert [name for name, _ in faults(answer)] == [field]
    assert await queue_of(served, entry) is Queue.HELD


async def test_one_id_may_stand_alone(served: Served) -> None:
    (first,) = await hold(served)
    (second,) = await hold(served)
    assert len(data(await ask(served, REJECT, {"ids": ident(served, first)}, {"id": ident(served, second)}))) == 2


async def test_who_may_only_look_may_not_decide(served: Served) -> None:
    (entry,) = await hold(served)
    for path in (RELEASE, REJECT):
        answer = await ask(served, path, {"id": ident(served, entry)}, role=identity.MONITOR)
        assert answer.status == 403
    assert await queue_of(served, entry) is Queue.HELD
