"""The frozen tree of settings. Only `postroom.settings.file` fills it, from TOML and the environment.

Field comments become `docs/settings.md`. The file writes units ("10 minutes", "50 MiB"); here are milliseconds and
bytes.
"""

from __future__ import annotations

import msgspec

from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis
from postroom.rules.retry import DELIVERY, PROCESSING, Schedule

KIB = 1024
MIB = 1024 * KIB


class Address(msgspec.Struct, frozen=True):
    """An address to listen on or to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class GatewaySettings(msgspec.Struct, frozen=True):
    hostname: str = ""  # the gateway's name in EHLO, Received and Message-ID; empty = the machine's name
    internal_domains: tuple[str, ...] = ()  # domains of your organisation; they decide the route of an entry
    relay_networks: tuple[str, ...] = ("127.0.0.0/8", "::1")  # clients that may send to external domains


class Smtp(msgspec.Struct, frozen=True):
    listen: tuple[Address, ...] = (Address("127.0.0.1", 2525),)  # addresses for incoming mail; port 0 = any free port
    max_size: int = 50 * MIB  # largest message
    max_recipients: int = 1000  # most recipients in one transaction (RFC 5321 4.5.3.1.8 asks for at least 100)
    max_header: int = 256 * KIB  # largest header of a message
    max_errors: int = 20  # number of refused commands after which the session is closed
    max_commands: int = 1000  # number of commands without a message after which the session is closed
    max_sessions: int = 1000  # most sessions at once; a tenth is reserved for relay_networks
    max_sessions_per_ip: int = 200  # most sessions at once from one IPv4 address or IPv6 /64, outside relay_networks
    idle_timeout: Millis = 5 * MINUTE  # time after which an idle session is closed (RFC 5321 4.5.3.2)
    data_timeout: Millis = 10 * MINUTE  # longest DATA with less than 1 KiB a minute; a whole message may take this
    # plus the time for max_size at 4 KiB a second


class HttpTls(msgspec.Struct, frozen=True):
    certificate: str = ""  # PEM file with the certificate and its chain, relative to the data directory; empty = no
    # TLS
    key: str = ""  # PEM file with the private key; both files are reloaded when they change


class Http(msgspec.Struct, frozen=True):
    listen: tuple[Address, ...] = (Address("127.0.0.1", 8080),)  # addresses of API and console; port 0 = any free port
    trusted_proxies: tuple[str, ...] = ()  # proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are trusted
    insecure: bool = False  # allow other machines to connect without TLS; only safe behind a proxy that ends TLS
    tls: HttpTls = HttpTls()


class StoreSettings(msgspec.Struct, frozen=True):
    url: str = "sqlite:///postroom.db"  # the database, relative to the data directory
    bodies: str = "file:///bodies"  # directory for message bodies over 128 KiB, relative to the data directory


class Processing(msgspec.Struct, frozen=True):
    paused: bool = False  # accept mail but do not process it
    checks: tuple[str, ...] = ("size", "structure", "loop")  # checks for each message, in this order
    max_hops: int = 50  # number of Received fields with which a message counts as looping (RFC 5321 6.3)


class DeliveryRoute(msgspec.Struct, frozen=True):
    """The first match wins. domain: "*", "example.org" or "*.example.org"."""

    domain: str
    host: Address


class Delivery(msgspec.Struct, frozen=True):
    paused: bool = False  # process mail but do not deliver it
    routes: tuple[DeliveryRoute, ...] = ()  # next hop for each domain; the first match wins; mail without a match waits
    connections: int = 10  # most connections at once to one destination
    connect_timeout: Millis = 30 * SECOND  # longest wait for a connection
    command_timeout: Millis = 5 * MINUTE  # longest wait for the reply to a command (RFC 5321 4.5.3.2)
    data_timeout: Millis = 10 * MINUTE  # longest wait for the reply to the final dot
    idle: Millis = 5 * SECOND  # time after which an unused connection is closed
    messages_per_connection: int = 1000  # number of messages after which a connection is closed
    maybe_delivered: str = "retry"  # what to do with entries that may have been delivered already: "retry" may deliver
    # them twice, "hold" waits for a person


class Retry(msgspec.Struct, frozen=True):
    processing: Schedule = PROCESSING
    delivery: Schedule = DELIVERY


class Bulk(msgspec.Struct, frozen=True):
    threshold: int = 10  # a mailshot is more than this many outbound messages of one sender with the same body within
    # `window`
    window: Millis = 10 * MINUTE  # the time in which `threshold` counts
    share: int = 20  # largest share of bulk_processing in the messages checked at once, in percent


class Antivirus(msgspec.Struct, frozen=True):
    address: str = "/run/clamav/clamd.ctl"  # address of clamd: the path of its socket, or HOST:PORT
    timeout: Millis = 60 * SECOND  # longest wait for the result of a scan; then the message is tried again later
    concurrency: int = 8  # most scans at once


class Limits(msgspec.Struct, frozen=True):
    active_entries: int = 10_000  # most entries in memory at once; the others wait in the store
    active_bytes: int = 64 * MIB  # most bytes of messages in memory at once; the others wait in the store
    disk_low: int = 256 * MIB  # with less free disk space, the gateway neither accepts nor delivers mail
    queued_entries: int = 5_000_000  # most entries in all queues; above this no mail is accepted; 0 = no limit
    lease: Millis = 60 * SECOND  # time after which an entry is taken from a worker that no longer responds


class Api(msgspec.Struct, frozen=True):
    clock_tolerance: Millis = 15 * MINUTE  # largest difference between the date of a signed request and our clock
    binding_lifetime: Millis = 0  # lifetime of keys issued by login; the vendor's usual value is "3 days"
    token_lifetime: Millis = 1799 * SECOND  # lifetime of OAuth access tokens
    rate_limit: int = 10_000  # most calls of one application to one function; above this calls are refused (429)
    rate_window: Millis = 5 * SECOND  # (observed at the vendor: "800 per 5 seconds")
    refusal_limit: int = 300  # most refused calls from one address; above this its unsigned calls are refused (429)
    refusal_window: Millis = MINUTE  # (signed calls are not limited)
    page_token_lifetime: Millis = HOUR  # lifetime of the token for the next page of an answer
    page_size: int = 100  # most entries on one page, and the default


class Console(msgspec.Struct, frozen=True):
    session_lifetime: Millis = 8 * HOUR  # duration of a login to the console
    login_attempts: int = 5  # failed logins per address and account within `login_window` before logins are delayed
    login_window: Millis = 5 * MINUTE  # the time in which `login_attempts` counts


class Retention(msgspec.Struct, frozen=True):
    history: Millis = 30 * DAY  # how long ended entries and their timelines are kept
    rejections: Millis = 7 * DAY  # how long the log of mail refused over SMTP is kept
    audit: Millis = 365 * DAY  # how long the audit log is kept


class Plans(msgspec.Struct, frozen=True):
    undo_window: Millis = 15 * MINUTE  # how long a plan can be undone; entries that it rejects, bounces or deletes are
    # kept until then
    expiry: Millis = HOUR  # how long a plan can be applied after it was made
    max_entries: int = 1_000_000  # most entries in one plan; a role may have a smaller limit
    max_changed: int = 10  # a plan is not applied when more than this percentage of its entries has changed since it
    # was made
    retry_rate: int = 20  # most entries of one destination that a plan, retry or release makes due in this time;
    retry_window: Millis = SECOND  # the others follow at the same rate


class Log(msgspec.Struct, frozen=True):
    format: str = "text"  # format of the log: "text" for people, or "json" with one object per line
    level: str = "info"  # lowest level of the events that are written


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
    data: str = "data"  # the data directory: database, bodies, keys (--data)
