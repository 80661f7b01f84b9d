"""`make screenshots`, or `python -m tests.browser.screenshots [DIRECTORY]`: the documentation's pictures, from a demo.

Starts the demo in a directory of its own, waits until its queues have something to show, and takes every picture with
Chromium. Nothing is made up for a picture: what it shows, the product does. Fails: AssertionError without Chromium and
chromedriver, or when the demo ends or has nothing to show in time.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser.chromium import Window, window

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"
RATE = "8"  # messages a second: twice the usual, so that a page fills up
READY = 60  # seconds until the gateway of the demo runs
FULL = 300  # seconds until the queues have something to show
FONTS_END = "\u2e80"  # beyond are scripts and symbols for which a machine may have no font
OLD = "age>1m"  # what the plan is made of


@contextmanager
def demo(data: Path) -> Iterator[dict[str, str]]:
    """A demo that runs; its `admin.json`."""
    command = [sys.executable, "-m", "postroom_demo", "--data", str(data), "--rate", RATE]
    with (data.parent / "demo.out").open("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            admin = data / "admin.json"
            wait_for(lambda: admin.exists() or process.poll() is not None, READY, "the demo runs")
            assert process.poll() is None, Path(said.name).read_text()
            yield json.loads(admin.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(0.5)


def shown(opened: Window, address: str, rows: int) -> bool:
    """Open a list; whether it has so many rows."""
    opened.go(address)
    return len(opened.all(".pick")) >= rows


def take(opened: Window, path: Path) -> None:
    opened.run("document.activeElement?.blur()")
    opened.until(lambda: opened.text("#live-text") in ("", "Updated 0 s ago"), "it is fresh")
    path.write_bytes(opened.driver.get_screenshot_as_png())
    print(path)


def take_list(opened: Window, path: Path, visible: int) -> None:
    """Processing, at a moment when its first rows are of many kinds and use only letters that can be drawn."""

    def telling() -> bool:
        opened.go("/console/")
        rows = opened.texts("#rows tr")[:visible]
        subjects = set(opened.texts("#rows .c-subject")[:visible])
        waiting = len(opened.all(f"#rows tr:nth-child(-n+{visible}) .next-try"))  # for the scanner, away now and then
        return visible // 8 <= waiting < len(rows) == visible <= len(subjects) + 3 and max("".join(rows)) < FONTS_END

    wait_for(telling, FULL, "processing shows entries of many kinds")
    take(opened, path)


def take_all(admin: dict[str, str], to: Path) -> None:
    with window(admin["baseUrl"]) as opened:
        opened.size(1440, 900, scale=1.5)
        opened.prefers("light")
        opened.go("/console/login")
        take(opened, to / "console-login.png")
        opened.log_in(admin["email"], admin["password"])
        maybe = "/console/?queue=held&q=label%3Amaybe-delivered"  # the demo holds such mail
        wait_for(
            lambda: shown(opened, maybe, 1) and max(opened.texts("#rows .c-subject")[0]) < FONTS_END,
            FULL,
            "a message that may have been delivered",
        )
        message = opened.one("#rows [data-open]").get_attribute("href").removeprefix(admin["baseUrl"]).partition("?")[0]
        wait_for(lambda: shown(opened, f"/console/?queue=delivery&q={OLD}", 5), FULL, "mail that waits for delivery")
        for scheme in ("light", "dark"):
            opened.prefers(scheme)
            take_list(opened, to / f"console-{scheme}.png", 17)
            opened.go(message)
            take(opened, to / f"console-message-{scheme}.png")
        opened.prefers("light")
        opened.go("/console/?q=report+form%3Aalice+age%3E10m")
        take(opened, to / "console-search.png")
        opened.go("/console/?queue=delivery&order=oldest")
        for number in (0, 1, 2):
            opened.click(lambda number=number: opened.all(".pick")[number])
        opened.click(lambda: opened.one("#picked [value=reject]"))
        opened.one("#reason")
        take(opened, to / "console-act.png")
        opened.go(f"/console/plans/new?line=queue:delivery+{OLD.replace('>', '%3E')}&action=delete")
        opened.click(lambda: opened.one("#look"))
        opened.one("#apply")
        take(opened, to / "console-plan.png")
        opened.go("/console/ledger")
        take(opened, to / "console-ledger.png")
        opened.size(390, 844, scale=2, phone=True)
        take_list(opened, to / "console-phone.png", 6)


def main() -> None:
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="postroom-pictures-") as here:
        data = Path(here) / "demo-data"
        data.mkdir(mode=0o700)
        with demo(data) as admin:
            take_all(admin, to)


if __name__ == "__main__":
    main()
