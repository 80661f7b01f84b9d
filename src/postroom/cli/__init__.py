"""The command line: `postroom COMMAND`, for people and for scripts.

Promises: every command takes `--data DIR` or `--config FILE`, prints a table for people and one JSON document with
`--json`, and exits 0 when done, 1 when nothing matched or something was refused or failed, 2 when it was used wrongly
(including wrong settings). Fails: one clear line on standard error; only a mistake of ours shows a trace.
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
    epilog="Every command explains itself with examples: postroom COMMAND --help.",
)
@click.version_option(__version__, prog_name="postroom", message="%(prog)s %(version)s")
def main() -> None:
    """Postroom: an email gateway whose processing queue you can see into.

    \b
    postroom serve --data data            run a gateway that keeps everything in ./data
    postroom queue count --data data      how much mail waits where
    postroom queue list --data data       which mail, since when and why
    postroom queue show ID --data data    everything about one entry

    Commands on the queue work beside a running gateway: they open the same store and disturb nothing.
    """


for command in (serve, queue, app, user, role, audit, settings, ledger, verify_store, take_backup, restore_backup):
    main.add_command(command)
