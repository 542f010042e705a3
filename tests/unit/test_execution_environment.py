# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder reads of the collection, and makes of the definition in the guide. No image is built."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "execution-environment.md"


def builder(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ansible_builder", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def collections(tmp_path: Path) -> Path:
    """Return a folder with the collection alone, as an image has it."""
    installed = tmp_path / "collections" / "ansible_collections" / "netedge"
    installed.mkdir(parents=True)
    (installed / "tproxy").symlink_to(ROOT)
    return tmp_path / "collections"


def test_the_builder_finds_what_the_collection_needs(tmp_path):
    found = yaml.safe_load(builder("introspect", str(collections(tmp_path))))
    assert {line.split()[0] for line in found["python"]} == {"jmespath", "pygal"}
    assert {line.partition("  #")[0] for line in found["system"]} == {
        "python3-bcc [platform:rpm]",
        "python3-bpfcc [platform:dpkg]",
    }


def test_no_requirement_is_bcc_of_pypi():
    assert not re.search(r"(?m)^bcc\b", (ROOT / "meta" / "ee-requirements.txt").read_text(encoding="utf-8"))


def test_the_definition_of_the_guide_makes_a_build_context(tmp_path):
    definition = tmp_path / "execution-environment.yml"
    definition.write_text(re.search(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1], "utf-8")
    builder(
        "create",
        "--output-filename",
        "Containerfile",
        "--file",
        str(definition),
        "--context",
        str(tmp_path / "context"),
    )
    made = (tmp_path / "context" / "Containerfile").read_text(encoding="utf-8")
    assert "netedge.tproxy" in (tmp_path / "context" / "_build" / "requirements.yml").read_text(encoding="utf-8")
    assert "dnf install -y openssh-clients git" in made
