# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kernels.lock: which packages each kernel comes from. Reads and writes text, fetches nothing.

A line is one package: kernel, suite, package, version, SHA-256 and path in the mirror. The lines of a kernel that agree
in suite and version are one candidate; the candidates of a kernel stand in the order in which they are tried.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

HEAD = """\
# The kernels that `tests/matrix/kernels/run` boots. Written by `tests/matrix/kernels/run --update-lock`.
# The first candidate of a kernel that the mirror still has is taken.
# kernel suite package version sha256 path
"""
USERLAND_HEAD = """\
# The programs of a guest whose processor is not that of this machine. Written as kernels.lock is.
# suite package version sha256 path
"""


class Package(NamedTuple):
    """One Debian package. `path` is relative to the mirror's URI."""

    suite: str
    name: str
    version: str
    sha256: str
    path: str


class Candidate(NamedTuple):
    """The source of a kernel: its image and its modules, in one or two packages."""

    kernel: str
    packages: tuple

    @property
    def version(self) -> str:
        """Return the packages' version."""
        return self.packages[0].version


def read_lock(text: str) -> dict:
    """Return {kernel: [Candidate, ...]} in the order of the file."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = {}
    for (kernel, _suite, _version), group in itertools.groupby(rows, lambda row: (row[0], row[1], row[3])):
        packages = tuple(Package(*row[1:]) for row in group)
        found.setdefault(kernel, []).append(Candidate(kernel, packages))
    return found


def read_userland(text: str) -> list:
    """Return the packages of a list without kernels."""
    return [Package(*line.split()) for line in text.splitlines() if not line.startswith("#")]


def write_userland(packages: list) -> str:
    """Return the text of a list without kernels."""
    return USERLAND_HEAD + "".join(f"{' '.join(package)}\n" for package in packages)


def write_lock(candidates: list) -> str:
    """Return the text of a lock."""
    lines = [" ".join((one.kernel, *package)) for one in candidates for package in one.packages]
    return HEAD + "\n".join(lines) + "\n"
