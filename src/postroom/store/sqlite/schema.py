"""The schema: its migrations, each in a transaction, and whether this release knows the schema of a file.

Fails: StoreUnusable, with the remedy.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import apsw

from postroom.errors import StoreUnusable
from postroom.store.sqlite.tx import fetch


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL) of every step, in order."""
    steps = []
    for file in resources.files("postroom.store.sqlite").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            steps.append((int(match[1]), match[2], file.read_text()))
    return sorted(steps)


def check_version(connection: apsw.Connection, path: Path) -> None:
    """For commands beside a gateway: refuse any schema but this program's. Nothing is changed."""
    version, newest = int(connection.pragma("user_version") or 0), migrations()[-1][0]
    if version != newest:
        raise StoreUnusable(
            f"{path} has schema {version}, this command expects {newest}: use the command of the release that serves "
            "it, or start this release's gateway once to bring the store up to date"
        )


def check_ours(connection: apsw.Connection, path: Path) -> int:
    """The version of the schema. Refuses a file that is neither new nor a store of this release or an older one."""
    newest = migrations()[-1][0]
    version = int(connection.pragma("user_version") or 0)
    if version > newest:
        raise StoreUnusable(
            f"{path} has schema {version}, this Postroom knows up to {newest}: it was written by a newer release; "
            "start that release, or restore a backup made by this one"
        )
    if version == 0 and fetch(connection, "SELECT 1 FROM sqlite_master LIMIT 1"):
        raise StoreUnusable(f"{path} is an SQLite file of something else; give another --data or [store] url")
    return version


def migrate(connection: apsw.Connection, path: Path) -> int:
    """Bring the schema up to this program's version, each step in a transaction. Returns the version."""
    steps = migrations()
    newest = steps[-1][0]
    version = check_ours(connection, path)
    for number, _name, text in steps:
        if number > version:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if int(connection.pragma("user_version") or 0) < number:  # another process may have done it meanwhile
                    connection.execute(text)
                    connection.execute(f"PRAGMA user_version={number}")
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
    return newest
