# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages kernels.lock should name: of every suite the newest kernel that the mirror really has."""

from __future__ import annotations

import re

from lock import Candidate, Package
from mirror import Mirror, Missing

# {kernel: (beginning of its version, suites)}; "" is whatever is newest.
KERNELS = {
    "5.10": ("5.10.", ("bullseye-security", "bullseye")),
    "6.1": ("6.1.", ("bookworm-security", "bookworm")),
    "6.12": ("6.12.", ("trixie-security", "trixie")),
    "newest": ("", ("trixie-backports", "sid")),
}
# Of this suite are the programs of a guest whose processor is not that of this machine.
USERLAND_SUITE = "bookworm"
USERLAND = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "zlib1g", "libffi8"),
    *("libssl3", "libsqlite3-0", "libexpat1", "libuuid1", "liblzma5", "libbz2-1.0", "libcrypt1", "libncursesw6"),
    *("libtinfo6", "iproute2", "libbpf1", "libelf1", "libmnl0", "libcap2", "libdb5.3", "libxtables12", "libbsd0"),
    *("libmd0", "libtirpc3", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libcom-err2", "libkrb5support0"),
    *("libkeyutils1", "libselinux1", "libpcre2-8-0", "busybox-static"),
    *("nftables", "libnftables1", "libnftnl11", "libjansson4", "libedit2", "libgmp10", "iptables", "libip4tc2"),
    *("libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0"),
)


def newest(mirror: Mirror, flavour: str) -> list:
    """Return the candidates, all of them fetched. Raises Unreachable, WrongDigest."""
    suites = [suite for _beginning, group in KERNELS.values() for suite in group]
    index, found = mirror.index(suites, "linux-"), []
    for kernel, (beginning, group) in KERNELS.items():
        of_suites = [_first_there(mirror, _candidates(kernel, beginning, suite, index, flavour)) for suite in group]
        found += sorted((one for one in of_suites if one), key=_age)
    return found


def userland(mirror: Mirror) -> list:
    """Return the packages of USERLAND. Raises Unreachable."""
    return [package for package in mirror.index([USERLAND_SUITE], "") if package.name in USERLAND]


def _candidates(kernel: str, beginning: str, suite: str, index: list, flavour: str) -> list:
    """Return the kernels of a suite, the newest first."""
    named = {package.name: package for package in index if package.suite == suite}
    releases = [name[len("linux-image-") :] for name in named if re.fullmatch(rf"linux-image-\d.*{flavour}", name)]
    groups = [Candidate(kernel, _parts(named, release)) for release in releases]
    return sorted((one for one in groups if one.packages and one.version.startswith(beginning)), key=_age)


def _parts(named: dict, release: str) -> tuple:
    """Return image and modules; up to 6.18 they are one package, from 7.2 on the one called image is empty."""
    image, binary, modules = (named.get(f"linux-{part}-{release}") for part in ("image", "binary", "modules"))
    parts = (binary, modules) if modules else (image, binary)
    found = tuple(part for part in parts if part)
    return found if len({part.version for part in found}) == 1 else ()


def _first_there(mirror: Mirror, candidates: list):
    """Return the first candidate with all its packages. An index may name a package that the pool has lost."""
    for candidate in candidates:
        try:
            for package in candidate.packages:
                mirror.fetch(package)
        except Missing as missing:
            print(f"{candidate.kernel}: {missing}, taking the one before")
        else:
            return candidate
    return None


def _age(candidate: Candidate) -> list:
    package: Package = candidate.packages[0]
    return [-int(number) for number in re.findall(r"\d+", package.version)]
