"""Settings: a tree of plain values (`tree`), and how to read it from a file (`keys`, `kinds`, `places`, `file`,
`toml`).

The rest of Postroom gets a finished `Settings`; only the command line reads files and prints the reference.
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
