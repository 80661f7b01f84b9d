"""Requests and answers of the vendor-compatible API, function by function, for the published schema.

The answers are the types that the functions write; the requests show the documented spelling only, although the readers
accept many more (docs/api.md). A test compares this table with the one that is served. Fails: never; it is a table.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.http.gateway.call import MAX_ITEMS
from postroom.http.gateway.calls import (
    account,
    find,
    held,
    login,
    oauth,
    queues,
    rejections,
    release,
    release_logs,
    tracking,
)
from postroom.http.gateway.wire import held as wire_held
from postroom.http.gateway.wire import tracking as wire_tracking
from postroom.store import MAX_TEXT, logs

Schema = dict[str, Any]


class Described(msgspec.Struct, frozen=True):
    """`item`: the schema of one element of the request's `data`; `answers`: the type of one element of the answer's."""

    summary: str
    item: Schema
    answers: Any
    paged: bool = False
    least: int = 0  # items of `data`
    most: int = MAX_ITEMS


TEXT: Schema = {"type": "string", "maxLength": MAX_TEXT}


def _enum(*words: str, default: str = "") -> Schema:
    return {"type": "string", "enum": list(words), **({"default": default} if default else {})}


def _object(required: tuple[str, ...] = (), **members: Schema) -> Schema:
    return {"type": "object", "properties": members, **({"required": list(required)} if required else {})}


def _array(items: Schema, least: int = 0, most: int = 0) -> Schema:
    return {
        "type": "array",
        "items": items,
        **({"minItems": least} if least else {}),
        **({"maxItems": most} if most else {}),
    }


def _search(*fields: str) -> Schema:
    return _object(("fieldName", "value"), fieldName=_enum(*fields), value=TEXT)


DATE: Schema = {
    "type": "string",
    "format": "date-time",
    "examples": ["2026-11-16T14:49:18+0000"],
    "description": "ISO 8601 with any offset; without one it is UTC.",
}
ORDER = _enum("ascending", "descending", "asc", "desc", default="descending")
ROUTE = _enum("all", "internal", "outbound", "inbound", "external")
ATTACHMENTS: Schema = {"type": "boolean"}
BOOLEAN: Schema = {"type": "boolean", "default": False}
IDENT: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
FILTERS = _array(_object(route=ROUTE, attachments=ATTACHMENTS), most=50)
ANYTHING: Schema = {"type": "object"}
TRACKED: Schema = {
    "type": "object",
    "properties": {
        "from": TEXT, "to": TEXT, "subject": TEXT, "senderIP": TEXT, "route": ROUTE, "attachments": ATTACHMENTS,
        "status": _array(_enum(*wire_tracking.STATUSES)), "start": DATE, "end": DATE,
    },
}  # fmt: skip

_NUMBERS = ("userCount", "maxRetention", "adminSessionTimeout")
_FLAGS = (
    "gateway", "archive", "maxRetentionConfirmed", "minRetentionEnabled", "automatedSegmentPurge", "policyInheritance",
    "searchReason", "exportApi", "expressAccount",
)  # fmt: skip
_TEXTS = (
    "accountName", "accountCode", "type", "region", "domain", "contentAdministratorDefaultView", "passphrase",
    "supportCode", "adminEmail", "contactEmail", "contactName", "telephone",
)  # fmt: skip
_MEMBERS: dict[str, Schema] = {
    **{name: {"type": "string"} for name in _TEXTS},
    **{name: {"type": "integer"} for name in _NUMBERS},
    **{name: {"type": "boolean"} for name in _FLAGS},
    "packages": _array({"type": "string"}),
}
ACCOUNT: Schema = {"type": "object", "properties": _MEMBERS, "required": sorted(_MEMBERS)}

GATEWAY: dict[str, Described] = {
    find.PATH: Described(
        "Messages in the processing queue, in pages.",
        _object(
            start={**DATE, "description": "Accepted at or after; a week before now, when it is not given."},
            end={**DATE, "description": "Accepted at or before; now, when it is not given."},
            sortOrder=ORDER,
            sortBy=_enum("createTime"),
            type=_enum("processing", "bulk_processing", default="processing"),
            searchBy=_search("ALL", "fromAddress", "toAddress", "subject", "info", "remoteIp"),
            filterBy=FILTERS,
        ),
        find.Listed,
        paged=True,
    ),
    held.LIST: Described(
        "Held messages, in pages.",
        _object(
            admin=BOOLEAN,
            start=DATE,
            end=DATE,
            sortOrder=ORDER,
            searchBy=_search("all", "subject", "sender", "recipient", "reasonCode", "senderIP"),
            filterBy=_array(
                _object(
                    route=ROUTE,
                    attachments=ATTACHMENTS,
                    heldGroup=_enum("administrator", "moderator", "user", "cluster"),
                ),
                most=50,
            ),
        ),
        wire_held.HeldMessage,
        paged=True,
    ),
    held.SUMMARY: Described("Number of held messages by reason.", ANYTHING, held.Counted),
    release.RELEASE: Described(
        "Release held messages.",
        _object(
            ("id",), id=IDENT, action=_enum("release"), reason={"type": "string", "maxLength": wire_held.MAX_MESSAGE}
        ),
        release.Released,
        least=1,
        most=wire_held.MAX_RELEASED,
    ),
    release.REJECT: Described(
        "Reject held messages, with or without a notice to the senders.",
        _object(
            ("ids",),
            ids=_array(IDENT, 1, wire_held.MAX_REJECTED),
            message={"type": "string", "maxLength": wire_held.MAX_MESSAGE},
            notify=BOOLEAN,
            reasonType=_enum(*wire_held.REASONS),
        ),
        release.Rejected,
        least=1,
        most=wire_held.MAX_RELEASED,
    ),
    release_logs.PATH: Described(
        "Who released or rejected held messages.",
        _object(
            admin=BOOLEAN,
            start={**DATE, "description": "30 days before now, when it is not given."},
            end=DATE,
            sortOrder=ORDER,
            searchBy=_search("all", "operator", "from", "to", "subject", "info", "heldReason"),
            filterBy=_array(
                _object(route=ROUTE, attachments=ATTACHMENTS, status=_enum("released", "rejected")), most=50
            ),
        ),
        release_logs.Listed,
        paged=True,
    ),
    queues.PATH: Described(
        "Number of waiting messages, every 10 minutes.",
        _object(("start", "end"), start=DATE, end=DATE),
        queues.Listed,
    ),
    tracking.SEARCH: Described(
        "Messages of the last days: waiting, ended, refused.",
        _object(
            messageId={**TEXT, "description": "The Message-ID header field."},
            start=DATE,
            end=DATE,
            searchReason={"type": "string"},
            advancedTrackAndTraceOptions=TRACKED,
        ),
        tracking.Listed,
        paged=True,
        most=1,
    ),
    tracking.INFO: Described(
        "Everything about one message.",
        _object(("id",), id=IDENT),
        _object(
            ("recipientInfo", "deliveredMessage", "status", "spamInfo", "id"),
            recipientInfo=ANYTHING,
            deliveredMessage=ANYTHING,
            queueInfo=ANYTHING,
            retentionInfo=ANYTHING,
            status=_enum(*wire_tracking.STATUSES),
            spamInfo=_object(spamScore={"type": "integer"}, detectionLevel={"type": "string"}),
            id=IDENT,
        ),
        least=1,
        most=1,
    ),
    account.PATH: Described(
        "The account record of this gateway.",
        ANYTHING,
        ACCOUNT,
    ),
    rejections.PATH: Described(
        "Mail refused over SMTP.",
        _object(
            admin=BOOLEAN,
            mailbox=TEXT,
            start={**DATE, "description": "Midnight of today (UTC), when it is not given."},
            end=DATE,
            sortOrder=ORDER,
            searchBy=_search("all", "from", "to", "type", "info", "remoteIp"),
            filterBy=_array(_object(type=_enum(*logs.REJECTION_KINDS)), most=50),
        ),
        rejections.Listed,
        paged=True,
    ),
}


# -- keys and tokens: functions of another kind, called before one has any


class Door(msgspec.Struct, frozen=True):
    summary: str
    media: str
    takes: Schema
    answers: Any
    security: list[dict[str, list[str]]]
    enveloped: bool = True


class Region(msgspec.Struct, frozen=True):
    code: str
    api: str


class Discovered(msgspec.Struct, frozen=True):
    """Where to log in, and how."""

    authenticate: list[str]
    emailAddress: str  # noqa: N815 - the wire's name, as below
    emailToken: str  # noqa: N815
    region: Region


class Keys(msgspec.Struct, frozen=True):
    """`duration`: milliseconds until the keys expire; missing when they never do."""

    accessKey: str  # noqa: N815 - the wire's name, as below
    secretKey: str  # noqa: N815
    duration: int | msgspec.UnsetType


class Token(msgspec.Struct, frozen=True):
    """`expires_in`: seconds."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


DOORS: dict[str, Door] = {
    login.DISCOVER: Door(
        "The login methods for an address.",
        "application/json",
        _object(data=_array(_object(("emailAddress",), emailAddress={"type": "string"}), most=login.MAX_ITEMS)),
        Discovered,
        [{}],
    ),
    login.LOGIN: Door(
        "Issues keys for a person; with `accessKey`, renews those keys.",
        "application/json",
        _object(data=_array(_object(userName={"type": "string"}, accessKey={"type": "string"}), most=1)),
        Keys,
        [{"password": []}],
    ),
    oauth.PATH: Door(
        "An access token for an application.",
        "application/x-www-form-urlencoded",
        _object(
            ("grant_type",),
            grant_type=_enum("client_credentials"),
            client_id={"type": "string"},
            client_secret={"type": "string"},
            scope={"type": "string"},
        ),
        Token,
        [{}],
        enveloped=False,
    ),
}
