# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's mirror, by apt: the URIs of this machine, the locked packages, and the packages in today's indexes.

Everything lies in one folder, apt's own state included. Nothing is installed. The mirror is not trusted: each file
is held against the lock's digest, and the lock is made from signed indexes.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

from lock import Package

HELPER = "/usr/lib/apt/apt-helper"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECURITY = "-security"
PATIENCE = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20")
CONFIGURATION = """\
Dir::Etc "{0}/etc";
Dir::Etc::SourceList "{0}/etc/sources.list";
Dir::Etc::SourceParts "{0}/etc/sources.list.d";
Dir::State "{0}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{0}/cache";
APT::Architecture "{1}";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
"""


class WrongDigest(Exception):
    """A package is not the one of the lock."""


class Missing(Exception):
    """The mirror has no such package any more."""


class Unreachable(Exception):
    """No mirror answers."""


class Mirror:
    """See above. `folder` holds the packages in debs/ and apt's private state in apt/."""

    def __init__(self, folder: pathlib.Path, architecture: str):
        self._architecture = architecture
        self._debs, self._apt = folder / "debs", folder / "apt"
        self._uris = None
        self._unreachable = None

    # ---- what the lock names -------------------------------------------------------------------

    def fetch(self, package: Package) -> pathlib.Path:
        """Return the package's file. Raises WrongDigest, Missing, Unreachable."""
        kept = self._file(package)
        if not kept.exists():
            self._download(package, kept)
        found = _sha256(kept)
        if found != package.sha256:
            raise WrongDigest(f"{kept} is not the package of kernels.lock: SHA-256 {found} instead of {package.sha256}")
        return kept

    def _file(self, package: Package) -> pathlib.Path:
        return self._debs / f"{package.name}_{package.version}_{self._architecture}.deb"

    def _download(self, package: Package, target: pathlib.Path) -> None:
        if self._unreachable:
            raise Unreachable(self._unreachable)
        self._debs.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        told = ""
        for uri in self.uris(package.suite):
            done = _quietly([HELPER, *PATIENCE, "download-file", f"{uri}/{package.path}", str(part)])
            if done.returncode == 0:
                part.rename(target)
                return
            part.unlink(missing_ok=True)
            told = "; ".join(line[3:] for line in done.stderr.splitlines() if line.startswith("E: Failed"))
        if " 404 " in told or not self.uris(package.suite):
            raise Missing(f"no apt source of this machine has {package.path}")
        self._unreachable = told
        raise Unreachable(told)

    def uris(self, suite: str) -> list:
        """Return where this machine gets Debian from: its security archive, or all others, as `suite` wants."""
        if self._uris is None:
            self._uris = _sources()
        return [uri for uri, source in self._uris if source.endswith(SECURITY) == suite.endswith(SECURITY)]

    # ---- what there is today -----------------------------------------------------------------------

    def index(self, suites: list, beginning: str) -> list:
        """Return each Package in these suites whose name begins so. Raises Unreachable."""
        own = {**os.environ, "APT_CONFIG": str(self._configure(suites))}
        told = _quietly(["apt-get", *PATIENCE, "update"], own).stderr
        columns = ["--format", "$(RELEASE) $(FILENAME)", "Created-By: Packages"]
        listed = _quietly(["apt-get", "indextargets", *columns], own)
        files = [line.split(" ", 1) for line in listed.stdout.splitlines()]
        if {suite for suite, _file in files} != set(suites):
            raise Unreachable(f"not every index could be had:\n{told}")
        found = []
        for suite, file in files:
            found += _packages(suite, _quietly([HELPER, "cat-file", file], own).stdout, beginning)
        shutil.rmtree(self._apt)  # 400 MB
        return found

    def forget_all_but(self, packages: list) -> None:
        """Remove the files of other packages for the same processor."""
        kept = {self._file(package) for package in packages}
        for path in self._debs.glob(f"*_{self._architecture}.deb"):
            if path not in kept:
                path.unlink()

    def _configure(self, suites: list) -> pathlib.Path:
        for folder in ("sources.list.d", "preferences.d", "apt.conf.d", "trusted.gpg.d"):
            (self._apt / "etc" / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self._apt / folder).mkdir(parents=True, exist_ok=True)
        options = f"[arch={self._architecture} signed-by={KEYS}]"
        lines = [f"deb {options} {self._first_uri(suite)} {suite} main\n" for suite in suites]
        (self._apt / "etc/sources.list").write_text("".join(lines), encoding="utf-8")
        configuration = self._apt / "apt.conf"
        configuration.write_text(CONFIGURATION.format(self._apt, self._architecture), encoding="utf-8")
        return configuration

    def _first_uri(self, suite: str) -> str:
        found = self.uris(suite)
        if not found:
            raise Unreachable(f"this machine's apt sources name no Debian archive with {suite}")
        return found[0]


def _sources() -> list:
    """Return [(URI, suite)] of the sources with Debian's suites; apt reads both forms of its sources by itself."""
    told = _quietly(["apt-get", "update", "--print-uris"]).stdout
    found = re.findall(r"^'(\S+)/dists/([^/']+)/(?:In)?Release'", told, re.MULTILINE)
    release = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
    own = re.search(r"^VERSION_CODENAME=\"?(\w+)", release, re.MULTILINE)
    names = re.compile(rf"({own[1] if own else 'sid'}|(old)*stable|testing|unstable|sid)(-[\w-]+)?$")
    return list(dict.fromkeys((uri, suite) for uri, suite in found if names.match(suite)))


def _packages(suite: str, index: str, beginning: str) -> list:
    found = []
    for paragraph in index.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|SHA256|Filename): (.*)$", paragraph, re.MULTILINE))
        if "Filename" in fields and fields["Package"].startswith(beginning):
            found.append(Package(suite, *(fields[name] for name in ("Package", "Version", "SHA256", "Filename"))))
    return found


def _quietly(words: list, environment: dict | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
