# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A browser without a window: chromium-headless-shell of this machine, or as tools/debian_programs unpacks it."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[3]
UNPACKED = ROOT / ".work" / "chromium" / "usr"
PROGRAM = shutil.which("chromium-headless-shell") or str(UNPACKED / "lib" / "chromium" / "chromium-headless-shell")
LIBRARIES = [str(UNPACKED / "lib" / "x86_64-linux-gnu" / folder) for folder in (".", "pulseaudio")]
FONTS = UNPACKED.parent / "etc" / "fonts"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@contextmanager
def browser() -> Iterator[Browser]:
    """Run the browser. It needs no sandbox of its own: it sees pages of the tests only."""
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(LIBRARIES)}
    if FONTS.exists():  # a machine without fonts of its own; text would have no width
        environment |= {"FONTCONFIG_PATH": str(FONTS), "XDG_DATA_HOME": str(UNPACKED / "share")}
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"], env=environment)
        try:
            yield running
        finally:
            running.close()


class Look:
    """A page in the browser, with everything that it asks for and complains about."""

    def __init__(self, running: Browser, path: pathlib.Path, size: dict[str, int], scheme: str) -> None:
        self.page: Page = running.new_page(viewport=size, color_scheme=scheme)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())

    def ask(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self.page.evaluate(expression)

    def routers(self) -> list[str]:
        """Return the names of the rows that the page shows, in their order."""
        return self.ask(
            "[...document.querySelectorAll('tbody:not([hidden]) tr.row > th')].map(cell => cell.dataset.sort)"
        )
