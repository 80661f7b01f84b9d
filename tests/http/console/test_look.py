"""What a program can check of the look: enough contrast in both themes, icons that exist, rules that are used."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

CONSOLE = files("postroom.http.console")
CSS = CONSOLE.joinpath("static", "console.css").read_text()
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", CSS)
}
TEXT_ON = [
    *[(ink, paper) for ink in ("ink", "ink-2", "accent") for paper in ("paper", "card", "raised")],
    *[(tone, f"{tone}-wash") for tone in ("red", "orange", "green", "violet", "accent")],
    *[("ink", f"{tone}-wash") for tone in ("red", "orange", "green", "violet", "accent")],
    *[(tone, "card") for tone in ("red", "orange", "green", "violet")],
    ("accent-ink", "accent"),
    ("red", "card"),
]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "paper"), TEXT_ON)
def test_text_stands_out_from_its_ground(theme: int, ink: str, paper: str) -> None:
    first, second = sorted((luminance(COLOURS[ink][theme]), luminance(COLOURS[paper][theme])), reverse=True)
    assert (first + 0.05) / (second + 0.05) >= 4.5, f"{ink} on {paper}"  # WCAG 2.2, 1.4.3 (AA)


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert not re.search(r"url\(|@import|https?://", CSS)
    assert not re.search(
        r"https?://|innerHTML|insertAdjacentHTML|eval\(", CONSOLE.joinpath("static", "console.js").read_text()
    )


def test_every_icon_that_a_page_names_is_in_the_sprite() -> None:
    templates = Path(str(CONSOLE.joinpath("templates")))
    drawn = set(re.findall(r'<symbol id="i-([\w-]+)"', (templates / "_icons.html").read_text()))
    named = {"locked", "delayed", "normal", "held", "good", "bad", "inbound", "outbound", "internal", "external"}
    for template in templates.iterdir():
        text = template.read_text()
        named |= set(re.findall(r'icon\("([\w-]+)"', text))
        named |= {symbol for _, symbol in re.findall(r'(?:chip|notice)\("([\w-]+)", "([\w-]+)"', text)}
    assert named <= drawn
    assert drawn - named == set(), "drawn, but never shown"
