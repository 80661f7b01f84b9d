"""The settings: a tree of plain values (`tree`), and how a file becomes one (`keys`, `kinds`, `places`, `file`, `toml`).

Everything else in Postroom gets a finished `Settings`; only the command line reads and explains files.
"""

from postroom.settings.tree import (
    KIB,
    MIB,
    Address,
    Antivirus,
    Api,
    Bulk,
    Console,
    Delivery,
    DeliveryRoute,
    GatewaySettings,
    Http,
    HttpTls,
    Limits,
    Log,
    Plans,
    Processing,
    Retention,
    Retry,
    Settings,
    Smtp,
    StoreSettings,
)

__all__ = [
    "KIB",
    "MIB",
    "Address",
    "Antivirus",
    "Api",
    "Bulk",
    "Console",
    "Delivery",
    "DeliveryRoute",
    "GatewaySettings",
    "Http",
    "HttpTls",
    "Limits",
    "Log",
    "Plans",
    "Processing",
    "Retention",
    "Retry",
    "Settings",
    "Smtp",
    "StoreSettings",
]
