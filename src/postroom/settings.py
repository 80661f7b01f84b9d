"""One frozen tree of settings. `settings_file` fills it from TOML and environment; nobody else reads either.

Field comments become `docs/settings.md`; units are written out in the file ("10 minutes", "50 MiB") and are
milliseconds and bytes here.
"""

from __future__ import annotations

import msgspec

from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis
from postroom.retry import DELIVERY, PROCESSING, Schedule

KIB = 1024
MIB = 1024 * KIB


class Address(msgspec.Struct, frozen=True):
    """A place to listen or connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Gateway(msgspec.Struct, frozen=True):
    hostname: str = ""  # EHLO, Received, Message-ID of notices; empty = the machine's name
    internal_domains: tuple[str, ...] = ()  # decides the route
    relay_networks: tuple[str, ...] = ("127.0.0.0/8", "::1")  # who may send to outside without logging in


class Smtp(msgspec.Struct, frozen=True):
    listen: tuple[Address, ...] = (Address("127.0.0.1", 2525),)
    max_size: int = 50 * MIB  # of one message
    max_recipients: int = 1000  # per transaction (RFC 5321 4.5.3.1.8 asks for at least 100)
    max_header: int = 256 * KIB  # of one message
    max_errors: int = 20  # refused commands before the session is closed
    max_commands: int = 1000  # without a message between them
    max_sessions: int = 1000  # at once
    max_sessions_per_ip: int = 200  # at once, outside relay_networks
    idle_timeout: Millis = 5 * MINUTE  # RFC 5321 4.5.3.2
    data_timeout: Millis = 10 * MINUTE  # for one whole DATA without progress


class Http(msgspec.Struct, frozen=True):
    listen: tuple[Address, ...] = (Address("127.0.0.1", 8080),)


class StoreSettings(msgspec.Struct, frozen=True):
    url: str = "sqlite:///postroom.db"  # relative to --data
    bodies: str = "file:///bodies"  # relative to --data; bodies over 128 KiB


class Processing(msgspec.Struct, frozen=True):
    paused: bool = False  # accept and keep, process nothing
    checks: tuple[str, ...] = ("size", "structure", "loop")  # in order; also "antivirus"
    max_hops: int = 50  # Received fields before a message counts as looping (RFC 5321 6.3: at least 100 hops is large)


class DeliveryRoute(msgspec.Struct, frozen=True):
    """First match wins. domain: "*", "example.org" or "*.example.org"."""

    domain: str
    host: Address


class Delivery(msgspec.Struct, frozen=True):
    paused: bool = False
    routes: tuple[DeliveryRoute, ...] = ()
    connections: int = 10  # at once to one destination
    connect_timeout: Millis = 30 * SECOND
    command_timeout: Millis = 5 * MINUTE  # RFC 5321 4.5.3.2
    data_timeout: Millis = 10 * MINUTE  # for the answer to the final dot
    idle: Millis = 5 * SECOND  # how long an unused connection is kept
    messages_per_connection: int = 1000
    maybe_delivered: str = "retry"  # or "hold": what happens to an entry that may have been delivered


class Retry(msgspec.Struct, frozen=True):
    processing: Schedule = PROCESSING
    delivery: Schedule = DELIVERY


class Bulk(msgspec.Struct, frozen=True):
    threshold: int = 10  # more outbound messages of one sender with the same body than this ...
    window: Millis = 10 * MINUTE  # ... within this time are a mailshot
    share: int = 20  # percent of the work in hand that bulk_processing may have


class Antivirus(msgspec.Struct, frozen=True):
    address: str = "/run/clamav/clamd.ctl"  # socket path or HOST:PORT of clamd
    timeout: Millis = 60 * SECOND
    concurrency: int = 8  # messages at once


class Limits(msgspec.Struct, frozen=True):
    active_entries: int = 10_000  # in hand at once; more wait in the store
    active_bytes: int = 64 * MIB
    disk_low: int = 256 * MIB  # below this much free: no intake, no delivery
    lease: Millis = 60 * SECOND


class Api(msgspec.Struct, frozen=True):
    clock_tolerance: Millis = 15 * MINUTE
    binding_lifetime: Millis = 0  # 0 = never
    token_lifetime: Millis = 1799 * SECOND
    rate_limit: int = 10_000  # calls per application and function ...
    rate_window: Millis = 5 * SECOND  # ... in this time
    page_token_lifetime: Millis = HOUR
    page_size: int = 100  # default and maximum


class Console(msgspec.Struct, frozen=True):
    session_lifetime: Millis = 8 * HOUR
    login_attempts: int = 5  # failures per address and account ...
    login_window: Millis = 5 * MINUTE  # ... in this time before login is slowed


class Retention(msgspec.Struct, frozen=True):
    history: Millis = 30 * DAY


class Log(msgspec.Struct, frozen=True):
    format: str = "text"  # or "json"
    level: str = "info"  # "debug", "info", "warning", "error"


class Settings(msgspec.Struct, frozen=True):
    gateway: Gateway = Gateway()
    smtp: Smtp = Smtp()
    http: Http = Http()
    store: StoreSettings = StoreSettings()
    processing: Processing = Processing()
    delivery: Delivery = Delivery()
    retry: Retry = Retry()
    bulk: Bulk = Bulk()
    antivirus: Antivirus = Antivirus()
    limits: Limits = Limits()
    api: Api = Api()
    console: Console = Console()
    retention: Retention = Retention()
    log: Log = Log()
    data: str = "data"  # directory that everything is relative to (--data)
