# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons of the distribution in the namespaces of a test: the router's own, and those of the client behind lan0.

A test writes the configuration with files(), starts a daemon with start(), and waits with until(). All daemons end with
the test. Without the program of a daemon the test is skipped.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

PATIENCE = 20  # seconds; a busy machine may start a daemon slowly
END = 5
UNPACKED = pathlib.Path(os.environ.get("WORK", "")) / "daemons"  # by tools/debian_programs
FOLDERS = [
    str(root / folder)
    for root in (UNPACKED, pathlib.Path("/"))
    for folder in ("usr/sbin", "usr/bin", "bin", "usr/lib/frr", "lib/systemd")
]


def program_of(name: str) -> str:
    """Return the path of a program of this machine or of the unpacked packages. Without it the test is skipped."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(FOLDERS))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def environment_of(program: str) -> dict:
    """Return the environment of a program. An unpacked one has libraries beside it."""
    if not program.startswith(str(UNPACKED)):
        return dict(os.environ)
    libraries = [str(folder) for place in ("usr/lib", "lib") for folder in UNPACKED.glob(f"{place}/*-linux-gnu")]
    packets = str(UNPACKED / "usr/bin/mtr-packet")
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries), "MTR_PACKET": packets}


def place_of(inside) -> contextlib.AbstractContextManager:
    """Return the context of a namespace: the router's for None."""
    return inside.inside() if inside else contextlib.nullcontext()


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
        program = program_of(words[0])
        with place_of(inside), (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [program, *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment_of(program),
                start_new_session=True,
            )

    def run(self, *words: str, inside=None, given: str = "") -> subprocess.CompletedProcess:
        """Run a program to its end, on the router or inside the namespace of a client."""
        program = program_of(words[0])
        with place_of(inside):
            return subprocess.run(
                [program, *words[1:]],
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * PATIENCE,
                env=environment_of(program),
            )

    def log(self, name: str) -> str:
        """Return what a daemon wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

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

    def until(self, seen, what: str, pause: float = 0.05) -> None:
        """Ask until something is so, with pauses in seconds. A failure shows what the daemons wrote."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in self._logs())
                pytest.fail(f"expected {what} within {PATIENCE} s\n{logs}")
            time.sleep(pause)

    def _logs(self) -> list:
        return sorted(self.folder.glob("*.log"))
