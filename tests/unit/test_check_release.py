# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tag is released only if version and changelog agree with it."""

from __future__ import annotations

import pathlib
import re
import runpy

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check_release.py"
FILES = {
    "galaxy.yml": "name: tproxy\nversion: 1.2.0\n",
    "plugins/module_utils/_tproxy/constants.py": 'VERSION = "1.2.0"  # of the collection\n',
    "changelogs/changelog.yaml": "releases:\n  1.1.0:\n    changes: {}\n  1.2.0:\n    changes: {}\n",
    "CHANGELOG.md": "# Release Notes\n\n## v1\\.2\\.0\n\n## v1\\.1\\.0\n",
}
check = runpy.run_path(str(TOOL))


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_release_where_all_agree_has_no_fault(checkout):
    assert check["faults"](checkout, "1.2.0") == []


@pytest.mark.parametrize("name", FILES)
def test_another_version_is_named_with_its_file(checkout, name):
    path = checkout / name
    path.write_text(path.read_text(encoding="utf-8").replace("2", "3"), encoding="utf-8")
    (fault,) = check["faults"](checkout, "1.2.0")
    assert fault.startswith(f"{name}: expected version 1.2.0, got ")
    assert "1.3.0" in fault


def test_a_missing_changelog_is_a_fault(checkout):
    (checkout / "changelogs/changelog.yaml").unlink()
    assert check["faults"](checkout, "1.2.0") == ["changelogs/changelog.yaml: expected version 1.2.0, got none"]


def test_a_fragment_that_is_left_is_a_fault(checkout):
    (checkout / "changelogs/fragments").mkdir()
    (checkout / "changelogs/fragments/fix.yml").touch()
    assert check["faults"](checkout, "1.2.0") == ["changelogs/fragments/fix.yml: is in no release"]


def test_this_checkout_has_one_version():
    version = re.search(
        check["VERSIONS"]["galaxy.yml"], (check["ROOT"] / "galaxy.yml").read_text(), flags=re.MULTILINE
    )[1]
    assert not [fault for fault in check["faults"](check["ROOT"], version) if fault.startswith(("galaxy", "plugins"))]
