"""`make bench-intake`: how many messages a second Postroom and Postfix, in turn, accept durably.

Postfix puts all mail on hold (the message is durable in its queue, its queue manager idle); Postroom's processing is
paused. No queue is emptied between rounds, which is when Postfix is at its best.
"""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import version

from bench import duel, load, postfix
from bench.gateway import Gateway

BARS = {"one per connection": 2.0, "many per connection": 2.5}
SETTINGS = """\
[gateway]
hostname = "bench.localdomain"
internal_domains = ["bench.example"]

[processing]
paused = true
"""


def main() -> int:
    chosen = duel.arguments("Durable intake, Postroom and Postfix in turn.", 20_000)
    if reason := load.missing():
        print(f"bench-intake: {reason}")
        return 0
    versions = {"postroom": version("postroom")}
    with duel.work_directory(chosen.work) as work, contextlib.ExitStack() as stack:
        gateway = stack.enter_context(Gateway(work / "postroom", SETTINGS))
        servers = [duel.Server("postroom", gateway.smtp, gateway.pid, lambda: True)]
        other: postfix.Postfix | None = None
        if reason := "left out (--only postroom)" if chosen.only else postfix.missing():
            print(f"bench-intake: without Postfix: {reason}")
        else:
            other = stack.enter_context(postfix.Postfix(work / "postfix", 9, postfix.EVERYTHING_ON_HOLD))
            servers.append(duel.Server("postfix", other.smtp, other.pid, lambda: True, share=0.6))
            versions["postfix"] = postfix.version()
        runs = duel.rounds(servers, chosen, work)
        _prove(runs, gateway, other)
        duel.report("intake", runs, BARS, chosen, versions)
    return 0


def _prove(runs: list[duel.Run], gateway: Gateway, other: postfix.Postfix | None) -> None:
    """Checks that all acknowledged mail is there: without that, the figure is worthless."""
    for name, kept in (("postroom", gateway.queued()), ("postfix", other.on_hold() if other else None)):
        sent = sum(run.messages for run in runs if run.server == name) + duel.WARM_UP * len(duel.CASES)
        if kept is not None and kept < sent:
            raise RuntimeError(f"{name} keeps {kept} messages of {sent} acknowledged ones")


if __name__ == "__main__":
    sys.exit(main())
