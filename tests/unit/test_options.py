# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option is in three places, which agree: documentation of the module, argument specification, role."""

from __future__ import annotations

import ast
import pathlib

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ansible_module import argspec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ansible_module.runner import trimmed

yaml = pytest.importorskip("yaml")

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
ROLE = ROOT / "roles" / "tproxy_splicer"
FACTS = ("type", "elements", "required", "default", "choices", "aliases")
NO_FACT = {"required": False}

# which option of which module a variable of the role becomes
VARIABLES = {
    "state": ("tc_bpf_attach", "state"),
    "default_action": ("tc_bpf_attach", "policy", "default_action"),
    "allow_ssh": ("tc_bpf_attach", "policy", "allow_ssh"),
    "accept": ("tc_bpf_attach", "policy", "accept"),
    "link_protocols": ("tc_bpf_attach", "policy", "link_protocols"),
    "management": ("tc_bpf_attach", "policy", "management"),
    "compile_on": ("tc_bpf_attach", "compile_on"),
    "pin_dir": ("tc_bpf_attach", "pin_dir"),
    "rules": ("tproxy_rule", "rules"),
    "owner": ("tproxy_rule", "owner"),
    "purge": ("tproxy_rule", "purge"),
    "mark": ("tproxy_route", "mark"),
    "table": ("tproxy_route", "table"),
    "failure": ("tproxy_state", "failure"),
    "confirm_timeout": ("tproxy_rule", "confirm_timeout"),
}


def test_blanks_behind_commas_go_from_lists_of_texts():
    given = {
        "interfaces": ["lan0", " lan1 "],
        "name": " a name ",
        "rules": [{"interfaces": [" lan0"], "name": " x"}],
        "owner": None,
    }
    assert trimmed(given, argspec.tproxy_rule()["argument_spec"]) == {
        "interfaces": ["lan0", "lan1"],
        "name": " a name ",
        "rules": [{"interfaces": ["lan0"], "name": " x"}],
        "owner": None,
    }


def constants(path: pathlib.Path) -> dict:
    """Return the strings that a file, or a class in it, assigns at its beginning."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assigned = [node for node in nodes if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    return {node.targets[0].id: node.value.value for node in assigned}


def documented(module: str) -> dict:
    """Return the options of a module's documentation, those of its fragments included."""
    text = yaml.safe_load(constants(ROOT / "plugins" / "modules" / f"{module}.py")["DOCUMENTATION"])
    fragments = constants(ROOT / "plugins" / "doc_fragments" / "splicer.py")
    found = {}
    for name in text.get("extends_documentation_fragment", []):
        part = name.split(".")[3].upper() if name.count(".") == 3 else "DOCUMENTATION"
        found.update(yaml.safe_load(fragments[part]).get("options", {}))
    return {**found, **text.get("options", {})}


def facts(options: dict, inner: str) -> dict:
    """Return type, default and choices of options, and of suboptions under the key `inner`."""
    found = {}
    for name, about in options.items():
        found[name] = {fact: about[fact] for fact in FACTS if about.get(fact) not in (None, NO_FACT.get(fact), [], {})}
        if inner in about:
            found[name]["inner"] = facts(about[inner], inner)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_documentation_and_argspec_agree(module):
    spec = getattr(argspec, module)()["argument_spec"]
    assert facts(documented(module), "suboptions") == facts(spec, "options")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_supports_check_mode_and_shares_no_specification(module):
    one, other = getattr(argspec, module)(), getattr(argspec, module)()
    assert one["supports_check_mode"] is True
    one["argument_spec"]["pin_dir"]["default"] = "changed"
    assert getattr(argspec, module)() == other


def entry_points() -> dict:
    return yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]


def option_of(path: tuple) -> dict:
    module, *names = path
    found = {"options": getattr(argspec, module)()["argument_spec"]}
    for name in names:
        found = found["options"][name]
    return found


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_of_the_role_is_what_its_option_is(variable):
    """Two differences are allowed: an empty list for an option without a default, and entries that the role checks."""
    told, option = entry_points()["main"]["options"][f"tproxy_splicer_{variable}"], option_of(VARIABLES[variable])
    both = [facts({"it": {**about, "default": about.get("default") or None}}, "options") for about in (told, option)]
    both = [about["it"] for about in both]
    if both[0].get("elements") == "raw":  # the role itself reports all faults of all entries
        for one in both:
            one.pop("elements"), one.pop("inner", None)
    assert both[0] == both[1]


def test_the_defaults_of_the_role_are_those_of_its_specification():
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    told = {name: about.get("default") for name, about in entry_points()["main"]["options"].items()}
    assert defaults == told


def test_the_readme_of_the_role_names_every_variable():
    table = (ROLE / "README.md").read_text(encoding="utf-8").partition("## Variables")[2].partition("\n## ")[0]
    for variable in entry_points()["main"]["options"]:
        assert f"`{variable[len('tproxy_splicer_') :]}`" in table, variable


def tasks_of(entries: list):
    """Yield every task of a list, those in blocks included."""
    for entry in entries:
        yield entry
        for part in ("block", "rescue", "always"):
            yield from tasks_of(entry.get(part, []))


@pytest.mark.parametrize("path", sorted((ROLE / "tasks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_module_that_the_role_calls_is_told_its_pin_dir(path):
    for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
        for module in [name for name in task if name.startswith("netedge.tproxy.")]:
            assert task[module].get("pin_dir") == "{{ tproxy_splicer_pin_dir }}", task["name"]


def test_an_entry_point_tells_of_a_variable_what_main_tells():
    main = facts(entry_points()["main"]["options"], "options")
    for name, point in entry_points().items():
        for variable, about in facts(point.get("options", {}), "options").items():
            assert about == main[variable], f"{name}: {variable}"
