"""Pages: the requested size, the token of the next page, and `meta.pagination` of the answer (contract section 4).

Promises: a token holds everything that its page needs - filter, order, top id, border id, direction, page size, the
total of page one, an expiry - so that pages stay consistent while the queue changes, and `data` beside a token has no
effect. It is encrypted and authenticated, and valid only for its application and function. Fails: PageRefused.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.http.gateway.paging.totals import Totals
from postroom.http.gateway.wire.entries import Query
from postroom.http.gateway.wire.envelope import Fault, invalid_token, malformed
from postroom.http.gateway.wire.members import given
from postroom.model import Entry, Order
from postroom.sealing import Sealer
from postroom.store import Reader

MAX_TOKEN = 8192  # characters; ours are a few hundred
_NONCE = 12
_NONCES = 128  # made at a time
_WHOLE = re.compile(r"\s*(-?[0-9]{1,18})\s*")


class PageRefused(PeerError):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A page of a query. `after` and `before`: the border id, of which one at most is given."""

    query: Query
    size: int
    top: int | None  # no entry newer than this one
    after: int | None
    before: int | None
    total: int  # of page one; -1 = this is page one
    expires: Millis


class Page(msgspec.Struct, frozen=True):
    """A page as read; `place.total` is known."""

    place: Place
    entries: list[Entry]
    earlier: bool  # there is a page before this one
    later: bool


class Asked(msgspec.Struct, frozen=True):
    """The pagination part of a request."""

    size: int
    token: str


def read_asked(body: dict[str, Any], items: list[Any], maximum: int) -> Asked:
    """From `meta.pagination`, or where some clients put it: `data[0].meta.pagination`, `data[0].pagination` (contract
    4)."""
    first = items[0] if items and isinstance(items[0], dict) else {}
    found: dict[str, Any] = {}
    for meta in (body.get("meta"), first.get("meta"), first):
        pagination = meta.get("pagination") if isinstance(meta, dict) else None
        if isinstance(pagination, dict) and any(given(value) for value in pagination.values()):
            found = pagination
            break
    token = found.get("pageToken")
    if token is not None and not isinstance(token, str):
        raise PageRefused(invalid_token())
    return Asked(_size(found.get("pageSize"), maximum), token or "")


def _size(value: Any, maximum: int) -> int:
    """A size from 1 to the maximum; values outside are clamped, not refused."""
    if value is None or value == "":
        return maximum
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value)
        value = None if match is None else int(match[1])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise PageRefused(malformed("pageSize", f"a number from 1 to {maximum}"))
    return min(max(value, 1), maximum)


class TokenSeal:
    """Encrypts bytes to opaque text, and decrypts it. `context`: the application and function that it is valid for."""

    __slots__ = ("_aead", "_nonces")

    def __init__(self, sealer: Sealer, purpose: str) -> None:
        self._aead = AESGCM(sealer.key(purpose))
        self._nonces: list[
            bytes
        ] = []  # random ones, made many at a time: each asks the system, and lets go of the interpreter

    def seal(self, plain: bytes, context: str) -> str:
        if not self._nonces:
            random = secrets.token_bytes(_NONCE * _NONCES)
            self._nonces = [random[at : at + _NONCE] for at in range(0, len(random), _NONCE)]
        nonce = self._nonces.pop()
        sealed = nonce + self._aead.encrypt(nonce, plain, context.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, token: str, context: str) -> bytes:
        try:
            if len(token) > MAX_TOKEN:
                raise ValueError
            text = token.strip().rstrip("=").encode("ascii")
            sealed = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
        except (ValueError, binascii.Error, InvalidTag):
            raise PageRefused(invalid_token()) from None


class PageTokens:
    """Places as tokens."""

    __slots__ = ("_decode", "_encode", "_seal")

    def __init__(self, sealer: Sealer) -> None:
        self._seal = TokenSeal(sealer, "postroom.page-token")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Place).decode

    def write(self, place: Place, context: str) -> str:
        return self._seal.seal(self._encode(place), context)

    def read(self, token: str, context: str, now: Millis) -> Place:
        try:
            place = self._decode(self._seal.open(token, context))
        except msgspec.MsgspecError:
            raise PageRefused(invalid_token()) from None
        if now >= place.expires:
            raise expired()
        return place


def expired() -> PageRefused:
    return PageRefused(invalid_token(": it has expired, ask for the first page again"))


def read_page(reader: Reader, place: Place, totals: Totals) -> Page:
    """In a reader thread, as one snapshot. An entry more than asked tells that a page follows; the other side is looked
    up."""
    with reader.snapshot():
        page = _read(reader, place, totals)
    return page


def _read(reader: Reader, place: Place, totals: Totals) -> Page:
    query, size, order = place.query, place.size, place.query.order
    found = reader.find(
        query.filter, limit=size + 1, order=order, after=place.after, before=place.before, top=place.top
    )
    more = len(found) > size
    if place.before is not None:
        entries = found[1:] if more else found
        border = entries[-1].id if entries else _just_before(place.before, order)
        later = bool(reader.find(query.filter, limit=1, order=order, after=border, top=place.top))
        return Page(place, entries, earlier=more, later=later)
    entries = found[:size]
    if place.after is not None:
        border = entries[0].id if entries else _just_after(place.after, order)
        earlier = bool(reader.find(query.filter, limit=1, order=order, before=border, top=place.top))
        return Page(place, entries, earlier=earlier, later=more)
    return Page(_first(reader, place, entries, more, totals), entries, earlier=False, later=more)


def _first(reader: Reader, place: Place, entries: list[Entry], more: bool, totals: Totals) -> Place:
    """Page one fixes the newest id that later pages may show, and the total."""
    if not more:
        return msgspec.structs.replace(place, total=len(entries))
    top = entries[0].id
    if place.query.order is Order.OLDEST:
        newest = reader.find(place.query.filter, limit=1, order=Order.NEWEST)
        top = newest[0].id if newest else entries[-1].id
    # In this snapshot nothing that matches is newer than `top`: the count needs no such bound, and is faster without.
    return msgspec.structs.replace(place, top=top, total=totals.count(reader, place.query.filter))


def _just_before(ident: int, order: Order) -> int:
    """A border that still includes `ident`."""
    return ident + 1 if order is Order.NEWEST else ident - 1


def _just_after(ident: int, order: Order) -> int:
    return ident - 1 if order is Order.NEWEST else ident + 1


def next_place(page: Page) -> Place | None:
    if not page.later:
        return None
    place = page.place
    if page.entries:
        border = page.entries[-1].id
    else:  # an empty page reached backwards: go on from where it was
        assert place.before is not None
        border = _just_before(place.before, place.query.order)
    return msgspec.structs.replace(place, after=border, before=None)


def previous_place(page: Page) -> Place | None:
    if not page.earlier:
        return None
    place = page.place
    if page.entries:
        border = page.entries[0].id
    else:
        assert place.after is not None
        border = _just_after(place.after, place.query.order)
    return msgspec.structs.replace(place, after=None, before=border)
