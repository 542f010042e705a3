# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role accepts the variables in the YAML of all documents. The integration target `examples` has the modules."""

from __future__ import annotations

import pathlib
import re
import textwrap

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.netedge.tproxy.plugins.filter.role_options import DEFAULTS, PREFIX, role_options

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "roles").rglob("*.md")])
SPECS = ROOT / "roles" / "tproxy_splicer" / "meta" / "argument_specs.yml"
OPTIONS = yaml.safe_load(SPECS.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
EXAMPLES = re.compile(r'^EXAMPLES = r"""\n(.*?)^"""', flags=re.S | re.M)
# A fenced block of YAML, or an indented one that begins with a variable of the role.
FENCED = re.compile(r"^( *)```yaml\n(.*?)^\1```", flags=re.S | re.M)
INDENTED = re.compile(rf"(?<=\n\n)((?: {{4,}}){PREFIX}\w+:.*\n(?:(?: {{4,}}.*)?\n)*)")


def blocks() -> list:
    """Return (page and number, document) of each block of YAML."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        here = [block for _indent, block in FENCED.findall(text)] + INDENTED.findall(FENCED.sub("", text))
        found += [
            (f"{page.relative_to(ROOT)}-{number}", yaml.safe_load(textwrap.dedent(block)))
            for number, block in enumerate(here, 1)
        ]
    return found


def variables(document: object) -> dict:
    """Return the variables of the role in a document: group variables, or those of plays and their roles."""
    if isinstance(document, list):
        parts = [part for play in document for part in (play, *play.get("roles", ()))]
        return {name: value for part in parts for name, value in variables(part.get("vars", {})).items()}
    return {name: value for name, value in document.items() if name.startswith(PREFIX)}


def templated_tasks(document: object) -> list:
    """Return the modules whose options as a whole are a template: Ansible warns of each, because it cannot check it."""
    if isinstance(document, dict):
        own = [name for name, value in document.items() if "." in str(name) and str(value).startswith("{{")]
        return own + [name for value in document.values() for name in templated_tasks(value)]
    return [name for part in document for name in templated_tasks(part)] if isinstance(document, list) else []


BLOCKS = [(name, variables(document)) for name, document in blocks()]
OF_ROLE = [(name, given) for name, given in BLOCKS if given]


def test_the_documents_have_examples():
    assert len(BLOCKS) >= 24
    assert len(OF_ROLE) >= 14


def test_no_example_gives_a_template_as_all_options_of_a_module():
    examples = [(path.name, yaml.safe_load(EXAMPLES.search(path.read_text(encoding="utf-8"))[1])) for path in MODULES]
    found = {name: templated_tasks(document) for name, document in [*blocks(), *examples]}
    assert {name: tasks for name, tasks in found.items() if tasks} == {}


@pytest.mark.parametrize("given", [given for _name, given in OF_ROLE], ids=[name for name, _given in OF_ROLE])
def test_the_role_accepts_its_variables(given):
    known = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    merged = {name[len(PREFIX) :]: value for name, value in {**known, f"{PREFIX}interfaces": ["lan0"], **given}.items()}
    merged["rules"] = [rule for name, value in merged.items() if name.split("__")[0] == "rules" for rule in value]
    assert role_options(merged, list(given))["faults"] == []
    # A template has its type on a router only.
    of_spec = {name: value for name, value in given.items() if name in OPTIONS and "{{" not in str(value)}
    assert ArgumentSpecValidator(OPTIONS).validate({f"{PREFIX}interfaces": ["lan0"], **of_spec}).error_messages == []
