# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents, the role and the messages claim the same platforms and the same oldest versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.library import OLDEST_LIBRARY
from ansible_collections.netedge.tproxy.tests.support.interpreters import OLDEST

ROOT = Path(__file__).resolve().parents[2]
# The words of the two READMEs for the platforms that Galaxy shows.
WORDS = {"bookworm": "12", "trixie": "13", "jammy": "22.04", "noble": "24.04", "9": "9"}
NAMES = {"EL": "RHEL"}


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["README.md", "roles/tproxy_splicer/README.md"])
def test_the_platforms_are_those_of_the_role(path):
    platforms = yaml.safe_load(text("roles/tproxy_splicer/meta/main.yml"))["galaxy_info"]["platforms"]
    for platform in platforms:
        name, versions = NAMES.get(platform["name"], platform["name"]), [WORDS[one] for one in platform["versions"]]
        assert re.search(rf"{name} {'(?: and | or )'.join(map(re.escape, versions))}\b", text(path)), (name, versions)


def test_each_platform_of_the_role_ran_or_is_told_to_be_by_parts():
    platforms = yaml.safe_load(text("roles/tproxy_splicer/meta/main.yml"))["galaxy_info"]["platforms"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text("docs/platforms.md").splitlines()]
    told = {row[0]: row[1:] for row in rows if len(row) == 3 and row[1].startswith(("ran: ", "by parts"))}
    for platform in platforms:
        for version in platform["versions"]:
            name = platform["name"]
            (found,) = [key for key in told if re.match(rf"{name} (.*, )?{version}\b", key)]
            how, command = told[found]
            target = "" if how == "by parts" or "by parts;" in how else command.split()[1].strip("`")
            assert not target or re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "roles/tproxy_splicer/README.md",
        "docs/reference/tproxy-splicer.md",
        "plugins/doc_fragments/splicer.py",
    ],
)
def test_the_oldest_pyroute2_is_the_one_of_the_error(path):
    claimed = re.findall(r"pyroute2`? \(?(\d[\d.]*\d) or (?:later|newer)", text(path))
    assert claimed == [OLDEST_LIBRARY.split()[1]]


def test_the_oldest_pyroute2_is_tested():
    assert re.search(r"^PYROUTE2 := (\S+)", text("Makefile"), re.MULTILINE)[1] == OLDEST_LIBRARY.split()[1]


@pytest.mark.parametrize("path", ["README.md", "roles/tproxy_splicer/README.md", "tests/config.yml"])
def test_the_oldest_python_is_the_one_of_the_tests(path):
    claimed = re.findall(r"(?:Python |python_requires: '>=)(\d\.\d+)", text(path))
    assert claimed == ["%d.%d" % OLDEST]
