"""`postroom serve`: runs the gateway until a signal stops it.

Promises: nothing starts with wrong settings; the exit code is the gateway's own. Fails: exit 2 with every problem of
the settings, or for more workers than the store allows.
"""

from __future__ import annotations

import os

import click

from postroom.cli.place import Place, at_a_place
from postroom.settings import Settings


@click.command()
@click.option("--smtp", metavar="HOST:PORT", help="Listen for mail here, not at [smtp] listen; port 0 = any free one.")
@click.option("--http", metavar="HOST:PORT", help="Listen for API and console here, not at [http] listen.")
@click.option("--workers", type=click.IntRange(min=1), default=1, metavar="N", help="Processes; SQLite allows one.")
@at_a_place
@click.pass_context
def serve(context: click.Context, place: Place, smtp: str | None, http: str | None, workers: int) -> None:
    """Run the gateway in the foreground until SIGTERM or Ctrl-C. SIGHUP reloads the settings.

    The first start creates an administrator and writes the keys and password to DIR/admin.json, readable by its owner
    only. The log goes to standard error.

    \b
    Examples:
      postroom serve                                        everything in ./data
      postroom serve --data /var/lib/postroom --smtp 0.0.0.0:25
      postroom serve --config /etc/postroom/postroom.toml
      POSTROOM_LOG__FORMAT=json postroom serve              settings from the environment
    """

    def read() -> Settings:
        """Called at the start and at each SIGHUP."""
        return place.loaded(smtp=smtp, http=http).settings

    settings = read()
    if workers > 1:
        raise click.UsageError(
            f"--workers {workers}: with SQLite a single process does all the work, which is faster than two on one "
            "file; leave --workers out"
        )
    from postroom.app import run  # only here: every other command starts faster without the whole gateway

    context.exit(run(settings, read, os.environ.get("NOTIFY_SOCKET", "")))
