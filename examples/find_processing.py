"""Shows what is in the processing queue, newest first.

    python examples/find_processing.py --data demo-data
    python examples/find_processing.py --data demo-data --search subject=invoice --route inbound
    python examples/find_processing.py --data demo-data --type bulk_processing --limit 5
    python examples/find_processing.py --data demo-data --json | head

`--data` is the gateway's data directory: the keys are read from its admin.json.
"""
# ruff: noqa: T201 - an example prints

from __future__ import annotations

import argparse
import itertools
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from postroom_client import Client, PostroomClientError, ProcessingMessage

COLUMNS = "{:<8} {:<9} {:>5} {:>8} {:<26} {:<26} {:<32} {}"


def row(message: ProcessingMessage, now: datetime) -> str:
    waiting = str(now - message.created).partition(".")[0] if message.created else ""
    sender = message.from_header.address or message.from_env.address or "<>"
    return COLUMNS.format(
        message.light(now),
        message.routing,
        message.attempts,
        waiting,
        sender[:26],
        message.to.address[:26],
        message.subject[:32],
        message.info,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Shows what is in the processing queue, newest first.")
    parser.add_argument("--data", type=Path, default=Path("demo-data"), help="the gateway's data directory")
    parser.add_argument("--url", help="the gateway's address, when it is not the one in admin.json")
    parser.add_argument("--type", default="processing", choices=("processing", "bulk_processing"))
    parser.add_argument(
        "--search", metavar="FIELD=TEXT", help="subject=invoice, fromAddress=alice, all=..., or just TEXT"
    )
    parser.add_argument("--route", choices=("inbound", "outbound", "internal", "external"))
    parser.add_argument("--attachments", action=argparse.BooleanOptionalAction, help="only with, or only without")
    parser.add_argument("--hours", type=float, help="only what came in the last N hours")
    parser.add_argument("--limit", type=int, default=30, help="at most this many messages")
    parser.add_argument("--json", action="store_true", help="what the gateway sent, one message a line")
    given = parser.parse_args()

    field, found, text = (given.search or "").partition("=")
    now = datetime.now(UTC)
    try:
        with Client.from_admin_json(given.data / "admin.json", base_url=given.url) as client:
            listing = client.find_processing_messages(
                type=given.type,
                search=((field, text) if found else given.search) or None,  # type: ignore[arg-type]
                route=given.route,
                attachments=given.attachments,
                start=now - timedelta(hours=given.hours) if given.hours else None,
            )
            messages = list(itertools.islice(listing, given.limit))
            if given.json:
                for message in messages:
                    print(json.dumps(message.raw, ensure_ascii=False))
                return 0
            if messages:
                print(COLUMNS.format("light", "route", "tries", "waiting", "from", "to", "subject", "info"))
            for message in messages:
                print(row(message, now))
            print(f"{len(messages)} shown of {listing.total_count()} in {given.type}")
    except (PostroomClientError, ValueError, OSError) as problem:
        print(f"find_processing: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
