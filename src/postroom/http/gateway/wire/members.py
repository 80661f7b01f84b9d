"""Reads the members of a request item in every known spelling; faults are collected and reading continues.

Pure. Promises: null and "" mean "not given"; words in any case; booleans also as text; an object where a list is
expected and the reverse. Fails: never; problems are appended to `faults`, and BadItem carries all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from postroom.clock import MINUTE, Millis
from postroom.errors import PeerError
from postroom.http.gateway.wire.dates import Moment, parse_date
from postroom.http.gateway.wire.envelope import Fault, malformed, not_allowed
from postroom.model import Route
from postroom.store import MAX_TEXT

AHEAD = 15 * MINUTE  # a start may lie so far after now: a clock that is ahead asks for what is newer than its last look
MAX_FILTERS = 50  # objects in filterBy
DATE_FORM = "a date such as 2015-11-16T14:49:18+0000"
ROUTE_WORDS = "all,internal,outbound,inbound,external"

T = TypeVar("T")

ROUTES: dict[str, Route | None] = {
    "all": None, "internal": Route.INTERNAL, "outbound": Route.OUTBOUND, "inbound": Route.INBOUND,
    "external": Route.EXTERNAL,
}  # fmt: skip
_BOOLEANS = {"true": True, "false": False}


class BadItem(PeerError):
    """An item with faults; carries all of them."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join([f"{fault.field}: {fault.message}" for fault in faults]))
        self.faults = faults


class Window(msgspec.Struct, frozen=True):
    """`start` and `end` as given."""

    start: Moment | None
    end: Moment | None


def an_object(item: Any) -> dict[str, Any]:
    """Raises BadItem."""
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise BadItem((malformed("data", "an object"),))
    return item


def missing(field: str, value: Any = None) -> Fault:
    """The fault for a mandatory member, in the vendor's two codes. `value`: what the caller sent instead."""
    if isinstance(value, str):
        return Fault(field, "err_validation_blank", "Field is mandatory and must not be blank", False)
    return Fault(field, "err_validation_null", "Field is mandatory and must not be null", False)


def given(value: Any) -> bool:
    return value is not None and value != ""


def word(value: Any, field: str, words: Mapping[str, T], expected: str, faults: list[Fault]) -> T | None:
    """A word of a closed list, in any case; None when not given, or with a fault when unknown."""
    if not given(value):
        return None
    key = value.strip().lower() if isinstance(value, str) else None
    if key is None or key not in words:
        faults.append(not_allowed(field, expected))
        return None
    return words[key]


def truth(value: Any, field: str, faults: list[Fault]) -> bool | None:
    return value if isinstance(value, bool) else word(value, field, _BOOLEANS, "true,false", faults)


def date(value: Any, field: str, faults: list[Fault]) -> Moment | None:
    if not given(value):
        return None
    moment = parse_date(value) if isinstance(value, str) else None
    if moment is None:
        faults.append(malformed(field, DATE_FORM))
    return moment


def window(item: dict[str, Any], faults: list[Fault]) -> Window:
    start, end = date(item.get("start"), "start", faults), date(item.get("end"), "end", faults)
    if start is not None and end is not None and start.at > end.last:
        faults.append(malformed("start", "a date not after end"))
    return Window(start, end)


def period(
    item: dict[str, Any], faults: list[Fault], now: Millis, usual: Callable[[Millis], Millis]
) -> tuple[Millis, Millis]:
    """First and last moment that are meant. End is now unless given; start is `usual` of now, or of an end that lies
    before that."""
    asked = window(item, faults)
    last = now if asked.end is None else asked.end.last
    if asked.start is None:
        first = usual(now)
        return (first if asked.end is None or first <= last else usual(asked.end.at)), last
    if asked.end is None and asked.start.at > now + AHEAD:
        faults.append(malformed("start", "a date not after end, which is now unless given"))
    return asked.start.at, last


def objects(value: Any, field: str, most: int, faults: list[Fault]) -> list[dict[str, Any]]:
    """An object or a list of objects: clients send both, whichever is documented."""
    if not given(value):
        return []
    found = value if isinstance(value, list) else [value]
    found = [one for one in found if one is not None]
    if len(found) > most or not all(isinstance(one, dict) for one in found):
        faults.append(malformed(field, "an object" if most == 1 else f"an array of up to {most} objects"))
        return []
    return found


def text(value: Any, field: str, faults: list[Fault]) -> str:
    """A searched text; "" when not given."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not given(value):
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        faults.append(malformed(field, f"text of up to {MAX_TEXT} characters"))
        return ""
    return bare(value)


def bare(value: str) -> str:
    """Removes the brackets of `<alice@corp.example>`, which some clients send; our fields have none."""
    inner = value.strip()
    return inner[1:-1] if inner[:1] == "<" and inner[-1:] == ">" and "@" in inner else value


def search(
    value: Any, fields: Mapping[str, T], expected: str, faults: list[Fault], *, named: bool = False
) -> tuple[T | None, str]:
    """`{fieldName, value}`; (None, "") when nothing is searched. `named`: `{from: text}` is meant by some pages,
    too."""
    for one in objects(value, "searchBy", 1, faults):
        field = word(one.get("fieldName"), "searchBy.fieldName", fields, expected, faults)
        needle = text(one.get("value"), "searchBy.value", faults)
        if needle:
            return field, needle
        for key, wanted in one.items() if named else ():
            if str(key).lower() in fields and given(wanted):
                return fields[str(key).lower()], text(wanted, f"searchBy.{key}", faults)
    return None, ""


def pairs(value: Any, names: Mapping[str, str], expected: str, faults: list[Fault]) -> list[tuple[str, Any]]:
    """filterBy in both shapes, mixed: `{route, attachments}` and `{fieldName, value}`. `names`: lower case -> ours."""
    found: list[tuple[str, Any]] = []
    for one in objects(value, "filterBy", MAX_FILTERS, faults):
        found += [(names[str(key).lower()], wanted) for key, wanted in one.items() if str(key).lower() in names]
        if given(one.get("fieldName")):
            name = word(one["fieldName"], "filterBy.fieldName", names, expected, faults)
            if name is not None:
                found.append((name, one.get("value")))
    return [(name, wanted) for name, wanted in found if given(wanted)]


class Filters(msgspec.Struct, frozen=True):
    """What filterBy means; several values of one kind widen each other, "all" or both truth values mean no filter."""

    routes: tuple[Route, ...]
    attachment: bool | None
    others: tuple[tuple[str, Any], ...]


FILTER_NAMES = {"route": "route", "attachments": "attachments", "attachment": "attachments"}


def filters(
    value: Any, faults: list[Fault], others: Mapping[str, str] | None = None, expected: str = "route,attachments"
) -> Filters:
    routes: list[Route | None] = []
    attachments: list[bool] = []
    more: list[tuple[str, Any]] = []
    for name, wanted in pairs(value, {**FILTER_NAMES, **(others or {})}, expected, faults):
        if name == "route":
            before = len(faults)
            route = word(wanted, "filterBy.route", ROUTES, ROUTE_WORDS, faults)
            if len(faults) == before:
                routes.append(route)
        elif name == "attachments":
            found = truth(wanted, "filterBy.attachments", faults)
            attachments += [] if found is None else [found]
        else:
            more.append((name, wanted))
    chosen = () if None in routes else tuple(sorted({route for route in routes if route is not None}))
    return Filters(chosen, attachments[0] if len(set(attachments)) == 1 else None, tuple(more))
