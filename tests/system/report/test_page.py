# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet in a real browser."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.netedge.tproxy.tests.support.fleet import HOSTILE, UNREACHABLE, answer, fleet
from ansible_collections.netedge.tproxy.tests.system.report.browser import DESKTOP, PHONE

WIDE_NAME = "edge1." + "very-long-name." * 12 + "example.com"
SIZES = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
# The contrast of text and its background by WCAG 2, for the names of two custom properties of the style sheet.
CONTRAST = """([text, back]) => {
  const canvas = document.createElement('canvas').getContext('2d');
  const luminance = (name) => {
    canvas.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => {
      const part = byte / 255;
      return part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
    });
    return .2126 * red + .7152 * green + .0722 * blue;
  };
  const [dark, light] = [luminance(text), luminance(back)].sort((one, other) => one - other);
  return (light + .05) / (dark + .05);
}"""
PAIRS = [
    *(("--text", back) for back in ("--page", "--card")),
    *(("--faint", back) for back in ("--page", "--card")),
    ("--link", "--card"),
    *((f"--{name}", f"--{name}-back") for name in ("good", "warn", "bad", "note")),
]


@SIZES
@SCHEMES
def test_a_page_asks_for_nothing_and_complains_of_nothing(look, size, scheme):
    seen = look(fleet(24), size, scheme)
    assert seen.requests == [seen.page.url]
    assert seen.complaints == []
    assert len(seen.routers()) == 24
    assert seen.page.locator("figure svg").count() == 3


@SIZES
def test_nothing_is_wider_than_the_window(look, size):
    results = {**fleet(24), WIDE_NAME: answer(3), f"dead.{WIDE_NAME}": {**UNREACHABLE, "msg": "x" * 400}}
    results[WIDE_NAME]["attachments"][0].update(interface="i" * 15, drift=["no_filter", "other_maps", "policy_stale"])
    results[WIDE_NAME]["rules"][0]["name"] = "n" * 128
    seen = look(results, size)
    assert seen.ask(FITS)
    for button in seen.page.locator("button.more").all():
        button.click()
    assert seen.page.locator("tbody.open").count() == 23  # three have no answer
    assert seen.ask(FITS)


def test_rows_are_in_the_order_of_their_states(look):
    seen = look(fleet(50), DESKTOP)
    states = seen.ask("[...document.querySelectorAll('tbody')].map(body => body.dataset.state)")
    order = ["unreachable", "failed", "error", "warning", "no program", "ok"]
    assert states == sorted(states, key=order.index)
    assert set(states) == {"unreachable", "failed", "error", "warning", "ok"}


@SIZES
def test_rows_are_sorted_by_each_column(look, size):
    """Numbers sort as numbers, names as people do; routers without an answer come last."""
    results = fleet(30)
    dead = [name for name, result in results.items() if "rules" not in result]
    seen = look(results, size)

    def sort_by(column: str) -> None:
        if size == DESKTOP:
            seen.page.get_by_role("button", name=column, exact=True).click()
        else:
            seen.page.get_by_label("Sort by").select_option(label=column)

    sort_by("Router")
    assert seen.routers() == sorted(results, key=lambda name: int(name.removeprefix("edge").partition(".")[0]))
    for column, number in (("Drops", 8), ("Fullest", 9), ("Findings", 5)):
        sort_by(column)
        assert sorted(seen.routers()[-len(dead) :]) == sorted(dead)
        values = seen.ask(
            f"[...document.querySelectorAll('tr.row')].map(row => row.cells[{number}]?.dataset.sort ?? null)"
        )
        assert values[-len(dead) :] == [None] * len(dead)
        figures = [float(value) for value in values[: -len(dead)]]
        assert figures == sorted(figures, reverse=True)
        assert figures[0] > figures[-1]


def test_a_second_click_turns_the_order(look):
    seen = look(fleet(30), DESKTOP)
    head = seen.page.get_by_role("columnheader", name="Drops")
    down, up = [], []
    for found, direction in ((down, "descending"), (up, "ascending")):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        found.extend(
            seen.ask("[...document.querySelectorAll('tr.row')].map(row => +(row.cells[8]?.dataset.sort ?? 0))")
        )
    assert sorted(down) == sorted(up)
    assert down[0] == max(down)
    assert up[0] == min(value for value in up if value)


def test_search_and_filter_choose_rows(look):
    seen = look(fleet(50), DESKTOP)
    seen.page.get_by_role("searchbox", name="Find").fill("LYON")
    assert all(name.endswith("lyon") for name in seen.routers())
    assert seen.page.locator("#shown").inner_text() == f"{len(seen.routers())} of 50 shown"
    seen.page.get_by_role("searchbox", name="Find").fill("watcher_down")
    assert len(seen.routers()) == sum(number % 11 == 3 and number % 40 != 9 for number in range(1, 51))
    seen.page.get_by_role("searchbox", name="Find").fill("")
    seen.page.get_by_label("only with problems").check()
    assert 0 < len(seen.routers()) < 50
    assert seen.page.locator('tbody[data-state="ok"]:visible').count() == 0


@SIZES
def test_details_open_and_close_by_keyboard(look, size):
    seen = look({"edge3": answer(3)}, size)
    assert not seen.page.get_by_text("systemctl start tproxy-splicer-watch").is_visible()
    seen.page.get_by_role("button", name="edge3").press("Enter")
    assert seen.page.get_by_text("systemctl start tproxy-splicer-watch").is_visible()
    seen.page.get_by_role("button", name="edge3").press("Enter")
    assert not seen.page.get_by_text("systemctl start tproxy-splicer-watch").is_visible()


@SCHEMES
def test_text_can_be_read(look, scheme):
    seen = look(fleet(5), DESKTOP, scheme)
    assert {pair: seen.page.evaluate(CONTRAST, pair) >= 4.5 for pair in PAIRS} == dict.fromkeys(PAIRS, True)
    bright = seen.ask("getComputedStyle(document.body).backgroundColor") == "rgb(244, 245, 247)"
    assert bright == (scheme == "light")


@SIZES
def test_a_hostile_name_is_shown_and_does_not_run(look, size):
    result = answer(3)
    result["rules"][0]["name"] = HOSTILE
    result["attachments"][0]["interface"] = HOSTILE
    result["findings"][0]["found"] = HOSTILE
    seen = look({HOSTILE: result}, size)
    seen.page.locator("button.more").click()
    assert seen.page.title() == "tproxy: 1 router"
    assert seen.requests == [seen.page.url]
    assert seen.complaints == []
    assert HOSTILE in seen.page.locator("dt", has_text="172.16.0.0/24").inner_text()
    assert HOSTILE in seen.page.locator(".interface").first.text_content()
    assert HOSTILE in seen.page.locator(".wide li").first.text_content()
    assert HOSTILE in seen.page.locator("figure svg").nth(1).text_content()


def test_the_page_lets_no_other_script_run_even_if_one_gets_in(look):
    """The policy in the head stops what an escape that is missing would let in."""
    seen = look(fleet(2), DESKTOP)
    seen.ask("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"document.title = 1\">')")
    seen.ask(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 2'}))"
    )
    seen.page.wait_for_timeout(200)
    assert seen.page.title() == "tproxy: 2 routers"
    assert len(seen.complaints) == 2
    assert all("Content Security Policy" in text for text in seen.complaints)


def test_without_scripts_every_detail_is_there(running, look):
    path = look({"edge3": answer(3)}, DESKTOP).page.url
    context = running.new_context(java_script_enabled=False, viewport=DESKTOP)
    page = context.new_page()
    page.goto(path)
    assert page.get_by_text("systemctl start tproxy-splicer-watch").is_visible()
    assert not page.get_by_label("Find").is_visible()
    context.close()


@pytest.mark.skipif(not os.environ.get("SCREENSHOTS"), reason="SCREENSHOTS names no folder")
@pytest.mark.parametrize(
    "name, size, scheme, opened",
    [
        ("fleet", {"width": 1160, "height": 640}, "light", ""),
        ("router", {"width": 1160, "height": 440}, "dark", "edge3.lyon"),
        ("phone", PHONE, "light", "edge3.lyon"),
        ("phone-dark", PHONE, "dark", ""),
    ],
)
def test_screenshots(look, name, size, scheme, opened):
    """Write the pictures of docs/report.md."""
    page = look(fleet(24), size, scheme).page
    if opened:
        button = page.locator("button.more", has_text=opened)
        button.click()
        button.evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 50)")
    page.screenshot(path=pathlib.Path(os.environ["SCREENSHOTS"]) / f"report-{name}.png")
