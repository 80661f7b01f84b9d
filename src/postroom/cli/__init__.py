"""The command line: `postroom COMMAND`, for people and for scripts.

Promises: every command takes `--data DIR` or `--config FILE`, prints a table for people and one JSON document with
`--json`. Exit codes: 0 done; 1 nothing matched, or something was refused or failed; 2 wrong usage or wrong settings.
Fails: one clear line on standard error; only a bug of ours shows a traceback.
"""

from __future__ import annotations

import click

from postroom import __version__
from postroom.cli.access import app, role
from postroom.cli.audit import audit
from postroom.cli.backup import restore_backup, take_backup
from postroom.cli.ledger import ledger
from postroom.cli.people import user
from postroom.cli.place import Commands
from postroom.cli.queue import queue
from postroom.cli.serve import serve
from postroom.cli.settings import settings
from postroom.cli.verify import verify_store


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="For the options of a command, with examples: postroom COMMAND --help.",
)
@click.version_option(__version__, prog_name="postroom", message="%(prog)s %(version)s")
def main() -> None:
    """Postroom: an email gateway whose processing queue you can see into.

    \b
    postroom serve --data data            run a gateway that keeps everything in ./data
    postroom queue count --data data      count the mail in each queue
    postroom queue list --data data       list the mail: since when it waits, and why
    postroom queue show ID --data data    show everything about one entry

    Every command but serve and restore also works while the gateway runs: it opens the same store.
    """


for command in (serve, queue, app, user, role, audit, settings, ledger, verify_store, take_backup, restore_backup):
    main.add_command(command)
