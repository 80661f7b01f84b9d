"""The pictures of the documentation: `python -m tests.browser.screenshots [DIRECTORY]`, by default docs/images.

The mail is made up, the clock stands still, everything else is real: server, store, browser.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from postroom.ids import public_id
from tests.browser.chromium import Window, window
from tests.http.console.scene import EMAIL, PASSWORD, Console, fill

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"


def take(opened: Window, path: Path) -> None:
    opened.run("document.activeElement?.blur()")
    opened.until(lambda: opened.text("#live-text") in ("", "Updated 0 s ago"), "it is fresh")
    path.write_bytes(opened.driver.get_screenshot_as_png())
    print(path)


def take_all(console: Console, named: dict[str, int], to: Path) -> None:
    with window(console.base) as opened:
        opened.size(1440, 900, scale=1.5)
        opened.prefers("light")
        opened.go("/console/login")
        take(opened, to / "console-login.png")
        opened.log_in(EMAIL, PASSWORD)
        for scheme in ("light", "dark"):
            opened.prefers(scheme)
            opened.go("/console/")
            take(opened, to / f"console-{scheme}.png")
            opened.go(f"/console/entries/{public_id(named['maybe'])}")
            take(opened, to / f"console-message-{scheme}.png")
        opened.prefers("light")
        opened.go("/console/?q=report+form%3Aalice+age%3E10m")
        take(opened, to / "console-search.png")
        opened.go("/console/")
        for number in (2, 3, 5):
            opened.click(lambda number=number: opened.all(".pick")[number])
        opened.click(lambda: opened.one("#picked [value=reject]"))
        opened.one("#reason")
        take(opened, to / "console-act.png")
        opened.go("/console/plans/new?line=-subject:lunch+queue:processing+age%3E1m&action=delete")
        opened.click(lambda: opened.one("#look"))
        opened.one("#apply")
        take(opened, to / "console-plan.png")
        opened.go("/console/ledger")
        take(opened, to / "console-ledger.png")
        opened.size(390, 844, scale=2, phone=True)
        opened.go("/console/")
        take(opened, to / "console-phone.png")


def main() -> None:
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="postroom-pictures-") as data:
        console = Console(Path(data))
        named = fill(console.store, console.clock)
        with console.serving():
            take_all(console, named, to)


if __name__ == "__main__":
    main()
