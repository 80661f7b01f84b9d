"""`make bench-relay`: source -> gateway -> sink until the queue is empty, by Postroom and by Postfix in turn.

Both accept the mail durably, process it and pass it on over SMTP to the same sink. Postroom runs its checks of size,
structure and loops; Postfix runs as usual, without the delay that slows its intake while delivery lags behind.
"""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import version

from bench import duel, load, postfix
from bench.gateway import Gateway

BARS = {"one per connection": 3.0, "many per connection": 4.0}
SETTINGS = """\
[gateway]
hostname = "bench.localdomain"
internal_domains = ["bench.example"]

[processing]
checks = ["size", "structure", "loop"]

[[delivery.routes]]
domain = "*"
host = "127.0.0.1:{sink}"
"""


def main() -> int:
    chosen = duel.arguments("End to end, Postroom and Postfix in turn.", 20_000)
    if reason := load.missing():
        print(f"bench-relay: {reason}")
        return 0
    versions = {"postroom": version("postroom")}
    with duel.work_directory(chosen.work) as work, contextlib.ExitStack() as stack:
        sink = stack.enter_context(load.smtp_sink(work / "sink.log"))
        gateway = stack.enter_context(Gateway(work / "postroom", SETTINGS.format(sink=sink)))
        servers = [duel.Server("postroom", gateway.smtp, gateway.pid, lambda: gateway.queued() == 0)]
        other: postfix.Postfix | None = None
        if reason := "left out (--only postroom)" if chosen.only else postfix.missing():
            print(f"bench-relay: without Postfix: {reason}")
        else:
            other = stack.enter_context(postfix.Postfix(work / "postfix", sink, postfix.NO_INTAKE_BRAKE))
            servers.append(duel.Server("postfix", other.smtp, other.pid, other.is_empty, share=0.35))
            versions["postfix"] = postfix.version()
        runs = duel.rounds(servers, chosen, work)
        _prove(runs, gateway)
        duel.report("relay", runs, BARS, chosen, versions)
    return 0


def _prove(runs: list[duel.Run], gateway: Gateway) -> None:
    """Checks that all mail was delivered, not merely gone."""
    sent = sum(run.messages for run in runs if run.server == "postroom") + duel.WARM_UP * len(duel.CASES)
    metrics = gateway.metrics()
    delivered = int(metrics.get('postroom_ended_total{outcome="delivered"}', 0))
    if delivered < sent or metrics.get("postroom_ledger_difference"):
        raise RuntimeError(f"postroom delivered {delivered} messages of {sent} acknowledged ones")


if __name__ == "__main__":
    sys.exit(main())
