# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons of the distribution in the namespaces of a test: the router's own, and those of the client behind lan0.

A test writes the configuration with files(), starts a daemon with start(), and waits with until(). All daemons end with
the test. Without the program of a daemon the test is skipped.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

PATIENCE = 20  # seconds; a busy machine may start a daemon slowly
END = 5


class Daemons:
    """The daemons of one test, and their folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._running: dict[str, subprocess.Popen] = {}

    def files(self, **texts: str) -> list:
        """Write texts to files of these names, and return their paths."""
        paths = [self.folder / name for name in texts]
        for path, text in zip(paths, texts.values()):
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        return [str(path) for path in paths]

    def start(self, name: str, *words: str, inside=None) -> None:
        """Start a daemon in the foreground, on the router or inside the namespace of a client."""
        program = shutil.which(words[0])
        if program is None:
            pytest.skip(f"{words[0]} is not installed")
        place = inside.inside() if inside else contextlib.nullcontext()
        with place, (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [program, *words[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """End a daemon by a signal to its own process, and wait for it."""
        daemon = self._running.pop(name)
        daemon.send_signal(how)
        try:
            daemon.wait(END)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def stop_all(self) -> None:
        """End all daemons."""
        for name in list(self._running):
            self.stop(name)

    def until(self, seen, what: str) -> None:
        """Wait until something is so. A failure shows what the daemons wrote."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in self._logs())
                pytest.fail(f"expected {what} within {PATIENCE} s\n{logs}")
            time.sleep(0.05)

    def _logs(self) -> list:
        return sorted(self.folder.glob("*.log"))
