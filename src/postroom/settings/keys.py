"""Every key of the settings file and the kind of its value: one table for reading, showing and documenting settings.

Promises: each field of `postroom.settings.Settings` has exactly one key here, in the tree's order (tested). Fails:
never.
"""

from __future__ import annotations

import msgspec

from postroom.checks import KNOWN
from postroom.clock import DAY, HOUR, MINUTE, SECOND
from postroom.settings import KIB, MIB, Settings
from postroom.settings.kinds import (
    Choice,
    Directory,
    Duration,
    Flag,
    Kind,
    ListOf,
    Number,
    PemFile,
    Rate,
    Size,
)
from postroom.settings.places import Domain, HostPort, Location, Network, Routes, SocketOrHost

GIB = 1024 * MIB
YEAR = 365 * DAY

KEYS: dict[str, Kind] = {
    "gateway.hostname": Domain(empty=True),
    "gateway.internal_domains": ListOf(Domain()),
    "gateway.relay_networks": ListOf(Network()),
    "smtp.listen": ListOf(HostPort(2525, listen=True), at_least=1),
    "smtp.max_size": Size(64 * KIB, 2 * GIB),  # RFC 5321 4.5.3.1.7: at least 64K octets
    "smtp.max_recipients": Number(1, 100_000),
    "smtp.max_header": Size(4 * KIB, 16 * MIB),
    "smtp.max_errors": Number(1, 10_000),
    "smtp.max_commands": Number(10, 1_000_000),
    "smtp.max_sessions": Number(1, 100_000),
    "smtp.max_sessions_per_ip": Number(1, 100_000),
    "smtp.idle_timeout": Duration(SECOND, HOUR),
    "smtp.data_timeout": Duration(SECOND, DAY),
    "http.listen": ListOf(HostPort(8080, listen=True), at_least=1),
    "http.trusted_proxies": ListOf(Network()),
    "http.insecure": Flag(),
    "http.tls.certificate": PemFile(),
    "http.tls.key": PemFile(),
    "store.url": Location("sqlite", "postroom.db", "postgresql postgres"),
    "store.bodies": Location("file", "bodies", "s3 gs az"),
    "processing.paused": Flag(),
    "processing.checks": ListOf(Choice(tuple(KNOWN))),
    "processing.max_hops": Number(1, 1000),
    "delivery.paused": Flag(),
    "delivery.routes": Routes(),
    "delivery.connections": Number(1, 1000),
    "delivery.connect_timeout": Duration(SECOND, 10 * MINUTE, example="30 seconds"),
    "delivery.command_timeout": Duration(SECOND, HOUR),
    "delivery.data_timeout": Duration(SECOND, HOUR),
    "delivery.idle": Duration(0, 10 * MINUTE, example="5 seconds"),
    "delivery.messages_per_connection": Number(1, 1_000_000),
    "delivery.maybe_delivered": Choice(("retry", "hold")),
    "retry.processing.waits": ListOf(Duration(100, 30 * DAY), at_least=1, repeats=True),
    "retry.processing.attempts": Number(0, 10_000),
    "retry.processing.age": Duration(SECOND, YEAR, example="96 hours"),
    "retry.delivery.waits": ListOf(Duration(100, 30 * DAY), at_least=1, repeats=True),
    "retry.delivery.attempts": Number(0, 10_000),
    "retry.delivery.age": Duration(SECOND, YEAR, example="96 hours"),
    "bulk.threshold": Number(1, 1_000_000),
    "bulk.window": Duration(SECOND, DAY),
    "bulk.share": Number(1, 100),
    "antivirus.address": SocketOrHost(3310),
    "antivirus.timeout": Duration(SECOND, 10 * MINUTE, example="60 seconds"),
    "antivirus.concurrency": Number(1, 1000),
    "limits.active_entries": Number(1, 1_000_000),
    "limits.active_bytes": Size(MIB, 64 * GIB),
    "limits.disk_low": Size(0, 1024 * GIB),
    "limits.queued_entries": Number(0, 1_000_000_000),
    "limits.lease": Duration(SECOND, HOUR, example="60 seconds"),
    "api.clock_tolerance": Duration(SECOND, DAY),
    "api.binding_lifetime": Duration(MINUTE, 10 * YEAR, example="3 days", never=True),
    "api.token_lifetime": Duration(SECOND, DAY),
    "api.rate_limit": Rate(10_000_000),
    "api.refusal_limit": Rate(10_000_000),
    "api.page_token_lifetime": Duration(SECOND, DAY, example="1 hour"),
    "api.page_size": Number(1, 1000),
    "console.session_lifetime": Duration(MINUTE, 30 * DAY, example="8 hours"),
    "console.login_attempts": Number(1, 1000),
    "console.login_window": Duration(SECOND, DAY),
    "retention.history": Duration(SECOND, 10 * YEAR, example="30 days"),
    "retention.rejections": Duration(MINUTE, 10 * YEAR, example="7 days"),
    "retention.audit": Duration(HOUR, 10 * YEAR, example="365 days"),
    "plans.undo_window": Duration(SECOND, 7 * DAY, example="15 minutes"),
    "plans.expiry": Duration(MINUTE, 7 * DAY, example="1 hour"),
    "plans.max_entries": Number(1, 100_000_000),
    "plans.max_changed": Number(0, 100),
    "plans.retry_rate": Rate(100_000),
    "log.format": Choice(("text", "json")),
    "log.level": Choice(("debug", "info", "warning", "error")),
    "data": Directory(),
}  # fmt: skip

# A key of the file that fills more than one field of the tree.
FIELDS: dict[str, tuple[str, ...]] = {
    "api.rate_limit": ("rate_limit", "rate_window"),
    "api.refusal_limit": ("refusal_limit", "refusal_window"),
    "plans.retry_rate": ("retry_rate", "retry_window"),
}

# Tables of the file: "gateway", "smtp", ..., "retry", "retry.processing", "retry.delivery".
TABLES: tuple[str, ...] = tuple(
    dict.fromkeys(
        ".".join(parts[:length]) for parts in (key.split(".") for key in KEYS) for length in range(1, len(parts))
    )
)


def value_of(settings: Settings, key: str) -> object:
    """The value of a key in the tree, as its kind's `write` expects it."""
    node: object = settings
    *path, last = key.split(".")
    for part in path:
        node = getattr(node, part)
    fields = FIELDS.get(key, (last,))
    values = tuple(getattr(node, field) for field in fields)
    return values if len(fields) > 1 else values[0]


def with_value(settings: Settings, key: str, value: object) -> Settings:
    """The tree with one key changed to the value that its kind read."""
    *path, last = key.split(".")
    fields = FIELDS.get(key, (last,))
    values = value if len(fields) > 1 and isinstance(value, tuple) else (value,)
    nodes: list[msgspec.Struct] = [settings]
    for part in path:
        nodes.append(getattr(nodes[-1], part))
    changed: msgspec.Struct = msgspec.structs.replace(nodes.pop(), **dict(zip(fields, values, strict=True)))
    for part in reversed(path):
        changed = msgspec.structs.replace(nodes.pop(), **{part: changed})
    assert isinstance(changed, Settings)
    return changed
