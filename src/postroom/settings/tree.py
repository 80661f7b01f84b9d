"""One frozen tree of settings. `settings_file` fills it from TOML and environment; nobody else reads either.

Field comments become `docs/settings.md`; units are written out in the file ("10 minutes", "50 MiB") and are
milliseconds and bytes here.
"""

from __future__ import annotations

import msgspec

from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis
from postroom.rules.retry import DELIVERY, PROCESSING, Schedule

KIB = 1024
MIB = 1024 * KIB


class Address(msgspec.Struct, frozen=True):
    """A place to listen or connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class GatewaySettings(msgspec.Struct, frozen=True):
    hostname: str = ""  # our name in EHLO, Received and the Message-ID of notices; empty = the machine's name
    internal_domains: tuple[str, ...] = ()  # the domains that are ours; they decide an entry's route
    relay_networks: tuple[str, ...] = ("127.0.0.0/8", "::1")  # who may send to outside without logging in


class Smtp(msgspec.Struct, frozen=True):
    listen: tuple[Address, ...] = (Address("127.0.0.1", 2525),)  # where mail is taken; port 0 = any free one
    max_size: int = 50 * MIB  # of one message
    max_recipients: int = 1000  # per transaction (RFC 5321 4.5.3.1.8 asks for at least 100)
    max_header: int = 256 * KIB  # of one message's header
    max_errors: int = 20  # refused commands before the session is closed
    max_commands: int = 1000  # commands without a message between them before the session is closed
    max_sessions: int = 1000  # sessions at once; a tenth is kept for relay_networks
    max_sessions_per_ip: int = 200  # sessions at once from one IPv4 address or one IPv6 /64, outside relay_networks
    idle_timeout: Millis = 5 * MINUTE  # how long a silent session is kept (RFC 5321 4.5.3.2)
    data_timeout: Millis = (
        10 * MINUTE
    )  # DATA without progress (less than 1 KiB a minute); a whole message has this and max_size at 4 KiB a second


class HttpTls(msgspec.Struct, frozen=True):
    certificate: str = (
        ""  # PEM file of the certificate and those it depends on, relative to the data directory; empty = no TLS
    )
    key: str = ""  # PEM file of its private key; both are read again when they change


class Http(msgspec.Struct, frozen=True):
    listen: tuple[Address, ...] = (Address("127.0.0.1", 8080),)  # where API and console answer; port 0 = any free one
    trusted_proxies: tuple[str, ...] = ()  # who may say in X-Forwarded-For, X-Forwarded-Proto or Forwarded who called
    insecure: bool = False  # listen beyond this machine without TLS: only behind a proxy that speaks it
    tls: HttpTls = HttpTls()


class StoreSettings(msgspec.Struct, frozen=True):
    url: str = "sqlite:///postroom.db"  # the database, relative to the data directory
    bodies: str = "file:///bodies"  # where message bodies over 128 KiB are kept, relative to the data directory


class Processing(msgspec.Struct, frozen=True):
    paused: bool = False  # accept and keep, process nothing
    checks: tuple[str, ...] = ("size", "structure", "loop")  # what looks at each message, in order
    max_hops: int = 50  # Received fields before a message counts as looping (RFC 5321 6.3: at least 100 hops is large)


class DeliveryRoute(msgspec.Struct, frozen=True):
    """First match wins. domain: "*", "example.org" or "*.example.org"."""

    domain: str
    host: Address


class Delivery(msgspec.Struct, frozen=True):
    paused: bool = False  # process and keep, deliver nothing
    routes: tuple[DeliveryRoute, ...] = ()  # where each domain's mail goes; the first match wins, without a match: MX
    connections: int = 10  # connections at once to one destination
    connect_timeout: Millis = 30 * SECOND  # for the connection to stand
    command_timeout: Millis = 5 * MINUTE  # for the answer to one command (RFC 5321 4.5.3.2)
    data_timeout: Millis = 10 * MINUTE  # for the answer to the final dot
    idle: Millis = 5 * SECOND  # how long an unused connection is kept
    messages_per_connection: int = 1000  # before a connection is renewed
    maybe_delivered: str = "retry"  # what happens to an entry that may have been delivered: "retry" may deliver it
    # twice, "hold" leaves it to a person


class Retry(msgspec.Struct, frozen=True):
    processing: Schedule = PROCESSING
    delivery: Schedule = DELIVERY


class Bulk(msgspec.Struct, frozen=True):
    threshold: int = (
        10  # more outbound messages than this of one sender with the same body within `window` are a mailshot
    )
    window: Millis = 10 * MINUTE  # the time in which `threshold` counts
    share: int = 20  # percent of the work in hand that bulk_processing may have


class Antivirus(msgspec.Struct, frozen=True):
    address: str = "/run/clamav/clamd.ctl"  # where clamd listens: the path of its socket, or HOST:PORT
    timeout: Millis = 60 * SECOND  # for the answer about one message; then it is tried again later
    concurrency: int = 8  # messages that are scanned at once


class Limits(msgspec.Struct, frozen=True):
    active_entries: int = 10_000  # entries in hand at once; more wait in the store
    active_bytes: int = 64 * MIB  # bytes of messages in hand at once; more wait in the store
    disk_low: int = 256 * MIB  # with less free disk than this: no intake, and no delivery, which could not be recorded
    queued_entries: int = 5_000_000  # entries in all queues before intake closes; 0 = as many as the disk takes
    lease: Millis = 60 * SECOND  # how long a worker has an entry to itself without a sign of life


class Api(msgspec.Struct, frozen=True):
    clock_tolerance: Millis = 15 * MINUTE  # how far the date of a signed request may be off
    binding_lifetime: Millis = 0  # when keys issued by login expire; the vendor's usual value is "3 days"
    token_lifetime: Millis = 1799 * SECOND  # of OAuth access tokens
    rate_limit: int = 10_000  # calls of one application to one function before it is told to wait
    rate_window: Millis = 5 * SECOND  # (the vendor was seen with "800 per 5 seconds")
    refusal_limit: int = 300  # refused calls from one address before it is told to wait; signed ones go on
    refusal_window: Millis = MINUTE  # the time in which they count
    page_token_lifetime: Millis = HOUR  # how long the next page of an answer can be asked for
    page_size: int = 100  # entries on one page, unless fewer are asked for; also the most


class Console(msgspec.Struct, frozen=True):
    session_lifetime: Millis = 8 * HOUR  # how long a login to the console lasts
    login_attempts: int = 5  # failed logins per address and account within `login_window` before login is slowed
    login_window: Millis = 5 * MINUTE  # the time in which `login_attempts` counts


class Retention(msgspec.Struct, frozen=True):
    history: Millis = 30 * DAY  # how long ended entries and their timelines are kept
    rejections: Millis = 7 * DAY  # how long it is known what was refused when it arrived
    audit: Millis = 365 * DAY  # how long the audit log is kept


class Plans(msgspec.Struct, frozen=True):
    undo_window: Millis = (
        15 * MINUTE
    )  # how long a plan can be undone; until then what it rejects, bounces or deletes is kept
    expiry: Millis = HOUR  # how long a plan may wait to be applied
    max_entries: int = 1_000_000  # entries of one plan; a role may have a smaller limit
    max_changed: int = (
        10  # percent of a plan's entries that may have changed since it was made; with more it is not applied
    )
    retry_rate: int = 20  # entries of one destination that one plan, retry or release makes due in a time;
    retry_window: Millis = SECOND  # more are spread over the time that follows


class Log(msgspec.Struct, frozen=True):
    format: str = "text"  # one line per event: words for people, or one JSON object each for programs
    level: str = "info"  # the least important events that are written


class Settings(msgspec.Struct, frozen=True):
    gateway: GatewaySettings = GatewaySettings()
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
    plans: Plans = Plans()
    log: Log = Log()
    data: str = "data"  # the directory that everything is kept in (--data)
