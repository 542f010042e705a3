# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter role_options: the variables of the role as options of tproxy_router, and every fault of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_options
short_description: Read the variables of the role tproxy_splicer
version_added: 1.0.0
description:
  - Turns the variables of the role into the options of M(netedge.tproxy.tproxy_router), and checks them.
  - The check needs no router, so the role refuses all faults before it changes anything.
author:
  - netedge.tproxy contributors (@netedge)
options:
  _input:
    description: The values of the variables, by their names without C(tproxy_splicer_).
    type: dict
    required: true
  names:
    description:
      - The names of all variables that begin with C(tproxy_splicer_), or nearly so. Unknown ones are faults.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse faults
  ansible.builtin.assert:
    that: not read.faults
    fail_msg: "{{ read.faults | join('; ') }}"
  vars:
    read: >-
      {{ {'interfaces': tproxy_splicer_interfaces, 'rules': tproxy_splicer_rules}
         | netedge.tproxy.role_options(lookup('varnames', '^t[a-z]+_s[a-z]+_', wantlist=True)) }}
"""

RETURN = r"""
_value:
  description:
    - C(options) are options of M(netedge.tproxy.tproxy_router). C(faults) has a sentence for each fault.
    - C(interfaces) are the names of the interfaces.
  type: dict
"""

import difflib
import pathlib

import yaml

from ..plugin_utils.router_input import checked, load, named, nearest, unknown

PREFIX = "tproxy_splicer_"
DEFAULTS = pathlib.Path(__file__).resolve().parents[2] / "roles" / "tproxy_splicer" / "defaults" / "main.yml"
LIKE_PREFIX = 0.9  # difflib's ratio: of one wrong, missing or swapped letter
LAYERS = f"{PREFIX}rules__"
# Variables of the playbooks, see docs/reference/rollout.md, docs/reference/render.md and docs/report.md.
OF_PLAYBOOKS = (
    "batches",
    "expectations",
    "exports",
    "hosts",
    "probe_from",
    "probe_retries",
    "probes",
    "reach_timeout",
    "report",
    "report_timeout",
    "rollout_confirm_timeout",
    "serial",
)
POLICY = ("default_action", "allow_ssh", "allow_echo", "accept", "track", "link_protocols", "management")
OWN = ("name", "mark", "hook", "before", "after", "priority", "handle", "addresses")
PASSED_ON = ("owner", "purge", "persist", "failure", "compile_on", "force", "pin_dir")


def role_options(variables, names=()):
    """Return the options of the module and the faults; see DOCUMENTATION."""
    given, faults = dict(variables), _unknown_variables(names)
    entries, wrong = _interfaces(given)
    options = {name: given[name] for name in PASSED_ON if name in given}
    options["interfaces"] = entries
    if given.get("rules") or given.get("purge"):
        options["rules"] = given.get("rules") or []
    elif not given.get("layers"):
        options.pop("purge", None)
    if given.get("layers"):
        options["layers"] = given["layers"]
    present = [entry["name"] for entry in entries if entry.get("state") != "absent"]
    options["routes"] = [_route(given, present)] if present else []
    if isinstance(given.get("flow_tables"), dict):  # Ansible refuses another type
        options["flow_tables"] = {**load("model.flow_tables").SIZES, **given["flow_tables"]}
    faults += wrong or checked(options)[1]
    return {"options": options, "faults": faults, "interfaces": present}


def _unknown_variables(names) -> list:
    """Return a fault for each variable that the role does not know, with the nearest one."""
    with DEFAULTS.open(encoding="utf-8") as file:
        known = [*yaml.safe_load(file), *(f"{PREFIX}{name}" for name in OF_PLAYBOOKS)]
    own = [name for name in names if name.startswith(PREFIX)]
    found = [name for name in own if name not in known and not name.startswith(LAYERS)]
    faults = [f"there is no variable {name}{_short(nearest(name, known))}" for name in sorted(found)]
    meant = {name: _with_prefix(name) for name in sorted(set(names) - set(own))}
    return faults + [
        f"there is no variable {name}; did you mean {right}?"
        for name, right in meant.items()
        if right in known or right.startswith(LAYERS)
    ]


def _with_prefix(name: str) -> str:
    """Return the name with the prefix of the role in place of one that is nearly the same, "" for another name."""
    first, second, rest = [*name.split("_", 2), "", ""][:3]
    prefix = f"{first}_{second}_"
    is_near = difflib.SequenceMatcher(None, prefix, PREFIX).ratio() >= LIKE_PREFIX
    return f"{PREFIX}{rest}" if is_near else ""


def _short(words: str) -> str:
    """Return the nearest name, without the list of all names where none is near."""
    return words if "did you mean" in words else "; defaults/main.yml of the role lists all variables"


def _interfaces(given) -> tuple:
    """Return the interfaces as the module takes them, and the faults that keep it from reading them."""
    listed = named(given.get("interfaces") or [])
    gone = given.get("absent_interfaces") or []
    gone = [gone] if isinstance(gone, str) else list(gone)
    if not isinstance(listed, list):
        return [], [f"{PREFIX}interfaces: expected a list of names or dictionaries, got {listed!r:.60}"]
    if not listed:
        return [], [f"{PREFIX}interfaces is empty: name at least one interface, in group_vars beside the inventory"]
    faults, entries = [], []
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, dict) or not entry.get("name"):
            wanted = "expected a name, or a dictionary with a name"
            faults.append(f"{PREFIX}interfaces: entry number {number} is {entry!r:.60}; {wanted}")
            continue
        faults += unknown(entry, [*OWN, *POLICY], f"{PREFIX}interfaces: {entry['name']}")
        if entry["name"] in gone:
            faults.append(f"{entry['name']} is in both {PREFIX}interfaces and {PREFIX}absent_interfaces; keep one")
        entries.append(_entry(entry, given))
    return entries + [{"name": str(name), "state": "absent"} for name in gone], faults


def _entry(entry, given) -> dict:
    """Return an interface with its policy: its own members, else the variables of the role."""
    policy = {name: entry.get(name, given.get(name)) for name in POLICY}
    own = {name: entry[name] for name in OWN if name in entry}
    hook = {"hook": given["hook"]} if given.get("hook") else {}
    return {**hook, **own, "policy": {name: value for name, value in policy.items() if value is not None}}


def _route(given, names) -> dict:
    values = {name: given[name] for name in ("mark", "table") if given.get(name) is not None}
    return {"interfaces": names, **values}


class FilterModule:
    """The filter plugin for Ansible."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"role_options": role_options}
