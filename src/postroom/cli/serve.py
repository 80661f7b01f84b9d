"""`postroom serve`: runs the gateway until it is told to stop.

Promises: nothing starts with wrong settings; the exit code is the gateway's own. Fails: exit 2 with every settings problem, or
for more workers than the store can have.
"""

from __future__ import annotations

import os

import click

from postroom.cli.place import Place, at_a_place
from postroom.settings import Settings


@click.command()
@click.option("--smtp", metavar="HOST:PORT", help="Take mail here, instead of at [smtp] listen; port 0 = any free one.")
@click.option("--http", metavar="HOST:PORT", help="Answer API and console here, instead of at [http] listen.")
@click.option("--workers", type=click.IntRange(min=1), default=1, metavar="N", help="Processes; SQLite has one.")
@at_a_place
@click.pass_context
def serve(context: click.Context, place: Place, smtp: str | None, http: str | None, workers: int) -> None:
    """Run the gateway in the foreground, until SIGTERM or Ctrl-C. SIGHUP reads the settings anew.

    The first start writes DIR/admin.json (readable by its owner only) with the keys and the password of a full
    administrator. The log goes to standard error.

    \b
    Examples:
      postroom serve                                        everything in ./data
      postroom serve --data /var/lib/postroom --smtp 0.0.0.0:25
      postroom serve --config /etc/postroom/postroom.toml
      POSTROOM_LOG__FORMAT=json postroom serve              settings from the environment
    """

    def read() -> Settings:
        """At the start, and again at each SIGHUP."""
        return place.loaded(smtp=smtp, http=http).settings

    settings = read()
    if workers > 1:
        raise click.UsageError(
            f"--workers {workers}: with SQLite one process carries everything, which is faster than two on one file; "
            "leave --workers out"
        )
    from postroom.app import run  # only here: every other command starts faster without the whole gateway

    context.exit(run(settings, read, os.environ.get("NOTIFY_SOCKET", "")))
