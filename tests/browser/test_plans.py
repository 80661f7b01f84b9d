"""Acting on all that match, in a browser: with scripts the pages live, without them everything is still there."""

from __future__ import annotations

from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Window
from tests.browser.conftest import Office

SUBJECTS = "#rows .c-subject a"


def test_all_that_match_are_deleted_and_taken_back(office: Office, person: Window) -> None:
    for subject in ("Offer one", "Offer two", "Lunch"):
        office.send(subject)
    person.go("/console/?q=offer")
    person.until(lambda: len(person.texts(SUBJECTS)) == 2, "both are there")
    assert not person.one("#all-matching").is_displayed()
    person.click(lambda: person.one("#pick-all"))
    person.until(lambda: person.text("#all-matching") == "Act on all 2 that match", "all of the page: all that match")
    person.click(lambda: person.one(".pick"))
    person.until(lambda: not person.one("#all-matching").is_displayed(), "no longer all")
    person.click(lambda: person.one("#pick-all"))
    office.send("Offer three")
    person.until(lambda: len(person.texts(SUBJECTS)) == 3, "more mail has come, and is not chosen")
    person.until(lambda: not person.one("#all-matching").is_displayed(), "so these are not all")
    person.click(lambda: person.one("#pick-all"))
    person.until(lambda: person.text("#all-matching") == "Act on all 3 that match", "it counts anew")
    person.click(lambda: person.one("#all-matching"))
    person.click(lambda: person.one("[name=action][value=delete]"))
    person.click(lambda: person.one("#look"))
    person.until(lambda: person.text("#apply") == "Delete 3 messages", "the plan")
    person.one("#reason").send_keys("asked for ")
    person.until(lambda: person.text("#live-text") not in ("", "Updated 0 s ago"), "the page grows older")
    person.until(lambda: person.text("#live-text") == "Updated 0 s ago", "it was refreshed")
    person.one("#reason").send_keys("by legal", Keys.ENTER)  # what was typed has stayed
    person.until(lambda: "3 done" in person.text("#plan"), "the result")
    assert "asked for by legal" in person.text(".plan-record")
    person.until(lambda: person.text("[data-until]").startswith("14:"), "the time to undo runs")
    person.go("/console/")
    assert person.texts(SUBJECTS) == ["Lunch"]
    person.go("/console/plans")
    person.click(lambda: person.one(".undo-form button"))
    person.until(lambda: "3 undone" in person.text("#plan"), "undone")
    person.go("/console/")
    assert sorted(person.texts(SUBJECTS)) == ["Lunch", "Offer one", "Offer three", "Offer two"]


def test_a_plan_needs_no_scripts_and_fits_a_phone(office: Office, person: Window) -> None:
    office.send("A subject that is a good deal longer than a telephone is wide, and then some" * 2)
    person.scripts(False)
    person.size(390, 844, phone=True)
    person.go("/console/")
    person.click(lambda: person.one(".plan-offer a"))
    person.click(lambda: person.one("[name=action][value=hold]"))
    person.click(lambda: person.one("#look"))
    person.one("#reason").send_keys("x", Keys.ENTER)
    person.until(lambda: "1 done" in person.one("#plan").text, "the result")
    pages = [
        person.driver.current_url.removeprefix(person.base),
        "/console/plans",
        "/console/plans/new?line=from:orders",
    ]
    person.click(lambda: person.one(".undo-form button"))
    person.until(lambda: "1 undone" in person.one("#plan").text, "undone")
    person.scripts(True)
    for path in pages:
        person.go(path)
        assert person.run("return document.documentElement.scrollWidth") <= 390, path
