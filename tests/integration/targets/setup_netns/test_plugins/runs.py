# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the results of modules. Each raises an error with all faults; a plain False would not name them.

answer is documented("tproxy_rule")
[predicted, applied, again] is exact("tproxy_rule", added=4, removed=0)
answer is refused("ports", "65535")
"""

from __future__ import annotations

import importlib

import yaml
from ansible.errors import AnsibleError

MODULES = "ansible_collections.netedge.tproxy.plugins.modules"
# what Ansible adds to a module's answer
ADDED = {
    "changed",
    "failed",
    "diff",
    "warnings",
    "deprecations",
    "invocation",
    "ansible_facts",
    "item",
    "ansible_loop_var",
}


def documented(result: dict, module: str) -> bool:
    """Whether a module returned exactly the documented keys."""
    return _judge(module, _undocumented(_own(result), _returns(module), ""))


def exact(results: list, module: str, **expected) -> bool:
    """Whether check mode predicted the first run, and the second run changed nothing."""
    predicted, applied, again = results
    said = [text for run in results for text in _undocumented(_own(run), _returns(module), "")]
    if (predicted["changed"], applied["changed"], again["changed"]) != (True, True, False):
        said.append(f"changed: {predicted['changed']}, {applied['changed']}, then {again['changed']}")
    said += _unlike(_own(predicted), _own(applied), "")
    said += [
        f"{key}: {applied.get(key)} returned, not {value}"
        for key, value in expected.items()
        if applied.get(key) != value
    ]
    if predicted["diff"] != applied["diff"]:
        said.append(f"diff foretold: {predicted['diff']}, diff of the run: {applied['diff']}")
    if not again["diff"]["before"] == again["diff"]["after"] == applied["diff"]["after"]:
        said.append(f"diff of the second run: {again['diff']}, of the first: {applied['diff']}")
    return _judge(module, said)


def refused(result: dict, *words: str) -> bool:
    """Whether a module failed with one message that has all these words, and without a traceback."""
    message = result.get("msg") or ""  # a crash has none yet
    said = [f"nothing is said of {word!r}" for word in words if word not in message]
    if not result.get("failed"):
        said.append("it did not fail")
    if not message or "Traceback" in message or "module_stderr" in result:
        said.append(f"it crashed: {result.get('module_stderr', '')} {result.get('exception', '')}")
    return _judge(message, said)


def _judge(subject: str, said: list) -> bool:
    if said:
        raise AnsibleError(f"{subject}: {'; '.join(said)}")
    return True


def _returns(module: str) -> dict:
    return yaml.safe_load(importlib.import_module(f"{MODULES}.{module}").RETURN)


def _own(result: dict) -> dict:
    return {key: value for key, value in result.items() if key not in ADDED}


def _undocumented(found, wanted: dict, place: str) -> list:
    if found is None or not wanted:
        return []
    if isinstance(found, list):
        return [
            text for number, entry in enumerate(found) for text in _undocumented(entry, wanted, f"{place}[{number}].")
        ]
    said = [f"{place}{key} is not documented" for key in sorted(found.keys() - wanted.keys())]
    said += [f"{place}{key} is not returned" for key in sorted(_due(wanted) - found.keys())]
    for key in sorted(found.keys() & wanted.keys()):
        said += _undocumented(found[key], wanted[key].get("contains", {}), f"{place}{key}.")
    return said


def _due(wanted: dict) -> set:
    """Return the keys that each result has; others depend on the options."""
    return {key for key, value in wanted.items() if value.get("returned", "success") in ("success", "always")}


def _unlike(predicted: dict, applied: dict, place: str) -> list:
    """Return the differences of two results. None stands for a value that check mode cannot predict."""
    said = []
    for key, value in predicted.items():
        if isinstance(value, dict) and isinstance(applied[key], dict):
            said += _unlike(value, applied[key], f"{place}{key}.")
        elif value is not None and value != applied[key]:
            said.append(f"{place}{key}: {value} foretold, {applied[key]} returned")
    return said


class TestModule:
    """The tests, for Ansible."""

    def tests(self) -> dict:
        """Return the tests by name."""
        return {"documented": documented, "exact": exact, "refused": refused}
