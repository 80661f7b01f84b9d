"""One meaning in every spelling that clients use: requests as data, and the texts that mean each (contract 6.1-6.5).

A Meaning is what a client wants; SPELT draws one and a body that says it. Nothing of the gateway is used to make them.
"""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote_plus

import msgspec
from hypothesis import strategies as st

FIELDS = ("ALL", "fromAddress", "toAddress", "subject", "info", "remoteIp")
ROUTES = ("all", "internal", "outbound", "inbound", "external")
_NAME = re.compile(r"[A-Za-z_$][\w$.-]*", re.ASCII)


class Meaning(msgspec.Struct, frozen=True):
    newest: bool = True
    bulk: bool = False
    start: int | None = None  # seconds
    end: int | None = None
    field: str = "ALL"
    text: str = ""
    routes: tuple[str, ...] = ()
    attachment: bool | None = None
    size: int | None = None


def a_meaning(chance: random.Random) -> Meaning:
    def maybe(value: Any) -> Any:
        return value if chance.random() < 0.5 else None

    alphabet = "abcXYZ 019.:%_\\\"'{}[],=&+;/\n\t\x7f\xa0éßİ漢\U0001f600"
    return Meaning(
        newest=chance.random() < 0.5,
        bulk=chance.random() < 0.3,
        start=maybe(chance.randint(1_000_000_000, 1_700_000_000)),  # a start behind now is refused
        end=maybe(chance.randint(2_000_000_000, 3_000_000_000)),
        field=chance.choice(FIELDS),
        text="".join(chance.choices(alphabet, k=chance.choice((0, 0, 1, 3, 12)))),
        routes=tuple(chance.sample(ROUTES, chance.choice((0, 0, 1, 1, 2)))),
        attachment=chance.choice((None, None, True, False)),
        size=maybe(chance.randint(1, 100)),
    )


def plain(meaning: Meaning) -> dict[str, Any]:
    """The body as the documentation writes it."""
    item: dict[str, Any] = {
        "sortOrder": "descending" if meaning.newest else "ascending",
        "type": "bulk_processing" if meaning.bulk else "processing",
    }
    for name, at in (("start", meaning.start), ("end", meaning.end)):
        if at is not None:
            item[name] = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
    if meaning.text:
        item["searchBy"] = {"fieldName": meaning.field, "value": meaning.text}
    filters: list[dict[str, Any]] = [{"route": route} for route in meaning.routes]
    if meaning.attachment is not None:
        filters.append({"attachments": meaning.attachment})
    if filters:
        item["filterBy"] = filters
    body: dict[str, Any] = {"data": [item]}
    if meaning.size is not None:
        body["meta"] = {"pagination": {"pageSize": meaning.size}}
    return body


def _spelt(seed: int) -> tuple[Meaning, bytes]:
    chance = random.Random(seed)
    meaning = a_meaning(chance)
    return meaning, Speller(chance).body(meaning)


# One draw for all of it: drawing every choice by itself takes ten times as long as what is tested.
SPELT: st.SearchStrategy[tuple[Meaning, bytes]] = st.integers(0, 1 << 64).map(_spelt)


class Speller:
    def __init__(self, chance: random.Random) -> None:
        self._random = chance

    def body(self, meaning: Meaning) -> bytes:
        """Members in places and shapes that were seen."""
        item = self._item(meaning)
        body: dict[str, Any] = {}
        if meaning.size is not None:
            pagination = {
                "pageSize": self._any(meaning.size, str(meaning.size), float(meaning.size), f" {meaning.size} ")
            }
            where = self._random.randrange(3)
            if where == 0:
                body["meta"] = {"pagination": pagination}
            elif where == 1:
                item["meta"] = {"pagination": pagination}
            else:
                item["pagination"] = pagination
        elif self._random.random() < 0.3:
            nothing = self._any(None, {}, {"page_size": 7}, {"pageSize": None}, {"pageSize": "", "pageToken": ""})
            body["meta"] = self._any({"pagination": nothing}, {}, None)
        body["data"] = self._any([item], [item], item)
        return self._wrapped(body)

    def _any(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def _case(self, word: str) -> str:
        return str(self._any(word, word.upper(), word.lower(), word.capitalize()))

    def _item(self, meaning: Meaning) -> dict[str, Any]:
        item: dict[str, Any] = {}
        self._put(item, "sortOrder", None if meaning.newest and self._random.random() < 0.5 else self._case(
            self._any("descending", "desc") if meaning.newest else self._any("ascending", "asc")
        ))  # fmt: skip
        self._put(item, "sortBy", self._any(None, "createTime", "CREATETIME"))
        self._put(
            item, "type", self._case("bulk_processing") if meaning.bulk else self._any(None, self._case("processing"))
        )
        self._put(item, "start", None if meaning.start is None else self._date(meaning.start, fraction=True))
        self._put(item, "end", None if meaning.end is None else self._date(meaning.end, fraction=False))
        search: Any = None
        if meaning.text:
            search = {"fieldName": self._case(meaning.field), "value": meaning.text}
            if meaning.field == "ALL" and self._random.random() < 0.3:
                search.pop("fieldName")
            search = self._any(search, [search])
        elif self._random.random() < 0.3:
            search = self._any([], {}, {"fieldName": None, "value": None}, {"fieldName": "subject", "value": ""})
        self._put(item, "searchBy", search)
        self._put(item, "filterBy", self._filters(meaning))
        if self._random.random() < 0.3:
            item[self._any("id", "page_size", "fromAddress", "$x", "with blank")] = self._any(
                None, 7, [[]], {"a": {"b": "}"}}
            )
        members = list(item.items())
        self._random.shuffle(members)
        return dict(members)

    def _put(self, item: dict[str, Any], name: str, value: Any) -> None:
        """What is not given is left out, or null, or an empty text."""
        if value is not None:
            item[name] = value
        elif self._random.random() < 0.4:
            item[name] = self._any(None, "")

    def _filters(self, meaning: Meaning) -> Any:
        pairs: list[tuple[str, Any]] = [("route", self._case(route)) for route in meaning.routes]
        if meaning.attachment is not None:
            pairs.append(("attachments", self._any(meaning.attachment, self._case(str(meaning.attachment)))))
        if len(pairs) == 2 and {name for name, _ in pairs} == {"route", "attachments"} and self._random.random() < 0.3:
            return [dict(pairs)]
        shapes = [
            {name: value} if self._random.random() < 0.5 else {"fieldName": self._case(name), "value": value}
            for name, value in pairs
        ]
        if len(shapes) == 1 and self._random.random() < 0.3:
            return shapes[0]
        if self._random.random() < 0.3:
            shapes.append({"route": None, "attachments": None})
        return shapes or self._any(None, [])

    def _date(self, at: int, *, fraction: bool) -> str:
        """The same second; with `fraction` also in forms that name a millisecond."""
        if fraction and self._random.random() < 0.2:
            return f"/Date({at}000{self._any('', '+0200')})/"
        minutes = self._any(0, 0, 120, -300, 345)
        there = datetime.fromtimestamp(at, timezone(timedelta(minutes=minutes)))
        sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
        offsets = [f"{sign}{hours:02d}:{rest:02d}", f"{sign}{hours:02d}{rest:02d}"]
        if minutes == 0:
            offsets += ["Z", "z", ""]
        digits = "." + "0" * self._random.randint(1, 7) if fraction and self._random.random() < 0.5 else ""
        return there.strftime(f"%Y-%m-%d{self._any('T', ' ')}%H:%M:%S") + digits + self._any(*offsets)

    def _wrapped(self, body: dict[str, Any]) -> bytes:
        """As JSON, as Python, as something between; bare, in a form, behind a byte order mark."""
        kind = self._random.randrange(8)
        if kind == 0:
            return repr(body).encode()
        if kind == 1:
            return json.dumps(body, ensure_ascii=self._any(True, False)).encode()
        if kind == 2:
            return b"\xef\xbb\xbf" + json.dumps(body).encode()
        text = self.loose(body)
        if kind == 3 and "\n--b" not in text:
            part = f"Content-Disposition: form-data; name={self._any('data', chr(34) + 'data' + chr(34))}\r\n\r\n{text}"
            return f"--b\r\n{part}\r\n--b--\r\n".encode()
        if kind == 4:
            return f"data={quote_plus(text)}".encode()
        return text.encode()

    def loose(self, value: Any) -> str:
        """As a Gson-like reader takes it."""
        if isinstance(value, bool):
            return self._case(str(value).lower())
        if value is None:
            return str(self._any("null", "None", "NULL", "none", "Null"))
        if isinstance(value, int | float):
            return json.dumps(value)
        if isinstance(value, str):
            return self._quoted(value)
        blank = self._any("", " ", "\n\t", "\r\n  ")
        if isinstance(value, list):
            inner = [self.loose(one) for one in value]
            opening, closing = "[]"
        else:
            inner = [f"{self._member(name)}{blank}:{blank}{self.loose(one)}" for name, one in value.items()]
            opening, closing = "{}"
        tail = "," if inner and self._random.random() < 0.3 else ""
        return opening + blank + f"{blank},{blank}".join(inner) + tail + blank + closing

    def _member(self, name: str) -> str:
        return name if _NAME.fullmatch(name) and self._random.random() < 0.4 else self._quoted(name)

    def _quoted(self, text: str) -> str:
        kind = self._random.randrange(4)
        if kind == 0:
            return json.dumps(text)
        if kind == 1:
            return repr(text)
        if kind == 2:
            return "u" + repr(text)
        return "'" + json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
