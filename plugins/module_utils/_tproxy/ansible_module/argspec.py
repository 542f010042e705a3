# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Option specifications of the modules: the name, type and default of each option. Role and tests read them too."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ..constants import (
    AUTO,
    CHANGED,
    DEFAULT_OWNER,
    EXECUTABLE,
    FAIL_CLOSED,
    FAIL_OPEN,
    FAMILY_NAMES,
    FLOW_TABLES,
    FUNCTION,
    HANDLE,
    INFO_MEMBERS,
    MERGED,
    METRICS_INTERVAL,
    PIN_DIR,
    PRIORITY,
    REPLACED,
    RETURN_RULES,
    ROUTE_PRIORITY,
    ROUTE_TABLE,
    ROUTER_STATES,
    STATE_FILE,
)
from ..model.policy import CHOICES, Mark

Arguments = dict[str, Any]  # of AnsibleModule

STATE = {"type": "str", "choices": ["present", "absent"], "default": "present"}
PIN = {"type": "path", "default": PIN_DIR}
FORCE = {"type": "bool", "default": False}
NAMES = {"type": "list", "elements": "str"}

# No choices and no numbers: Ansible would stop at the first fault of a list. model/rule_options.py names all faults.
RULE = {
    "destination": {"type": "str"},
    "source": {"type": "str"},
    "protocol": {"type": "raw"},
    "ports": {"type": "raw", "aliases": ["port"]},
    "interfaces": NAMES,
    "action": {"type": "str"},
    "tproxy_ip": {"type": "str"},
    "tproxy_port": {"type": "str"},
    "tproxy_user": {"type": "str"},
    "on_missing": {"type": "str"},
    "fragments": {"type": "str"},
    "name": {"type": "str"},
}

MANAGEMENT = {
    "source": {"type": "str"},
    "protocol": {"type": "str", "default": "tcp"},
    "port": {"type": "str"},
}

POLICY = {
    "default_action": {"type": "str", "choices": list(CHOICES["default_action"]), "default": "drop"},
    "allow_ssh": {"type": "bool", "default": True},
    "allow_echo": {"type": "bool", "default": False},
    "accept": {"type": "str", "choices": list(CHOICES["accept"]), "default": "ok"},
    "track": {"type": "str", "choices": list(CHOICES["track"])},
    "link_protocols": {"type": "str", "choices": list(CHOICES["link_protocols"]), "default": "pass"},
    "management": {"type": "list", "elements": "dict", "default": [], "options": MANAGEMENT},
}


# A change of any module can be part of a pending change. The token identifies that change; it is no secret.
TOKEN = {"confirm_token": {"type": "str", "no_log": False}}
CONFIRM = {
    **TOKEN,
    "confirm_timeout": {"type": "int", "default": 0},
    "confirm_by_default": {"type": "bool", "default": False},
}

FAILURE = {"type": "str", "choices": [FAIL_OPEN, FAIL_CLOSED], "default": FAIL_OPEN}


def tproxy_rule() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_rule."""
    items = {**RULE, "owner": {"type": "str"}}
    return _copy(
        argument_spec={
            **RULE,
            "rules": {"type": "list", "elements": "dict", "options": items},
            "layers": {"type": "dict"},
            "owner": {"type": "str", "default": "ansible"},
            "purge": {"type": "bool", "default": False},
            "force": FORCE,
            "return_rules": {"type": "str", "choices": list(RETURN_RULES), "default": CHANGED},
            "state": STATE,
            **CONFIRM,
            "pin_dir": PIN,
        },
        required_one_of=[("destination", "rules", "layers")],
        mutually_exclusive=[(name, other) for name in RULE for other in ("rules", "layers")],
    )


PROGRAM = {
    "source": {"type": "str"},
    "source_files": {"type": "dict"},
    "defines": {"type": "dict", "default": {}},
    "compile_on": {"type": "str", "choices": ["target", "controller"], "default": "target"},
    "compiled": {"type": "dict"},
    "blob": {"type": "str"},
    "blob_content": {"type": "str"},
}


def tc_bpf_attach() -> Arguments:
    """Return the arguments of AnsibleModule for tc_bpf_attach."""
    return _copy(
        argument_spec={
            "interface": {"type": "str", "required": True, "aliases": ["dev"]},
            "direction": {"type": "str", "choices": ["ingress", "egress"], "default": "ingress"},
            "state": STATE,
            **PROGRAM,
            "function": {"type": "str", "default": FUNCTION},
            "priority": {"type": "int", "default": PRIORITY},
            "handle": {"type": "int", "default": HANDLE},
            **HOOK,
            "policy": {"type": "dict", "options": POLICY},
            "force": FORCE,
            **CONFIRM,
            "pin_dir": PIN,
        },
        mutually_exclusive=[("source", "blob"), ("before", "after")],
    )


HOOK = {
    "hook": {"type": "str", "choices": ["auto", "tcx", "clsact"], "default": "auto"},
    "before": {"type": "str"},
    "after": {"type": "str"},
}

ROUTER_INTERFACE = {
    "name": {"type": "str", "required": True},
    "state": STATE,
    "policy": {"type": "dict", "options": POLICY},
    "mark": {"type": "str"},
    "priority": {"type": "int", "default": PRIORITY},
    "handle": {"type": "int", "default": HANDLE},
    **HOOK,
    "addresses": {**NAMES, "default": [AUTO]},
}

METRICS = {
    "dir": {"type": "path", "default": ""},
    "interval": {"type": "int", "default": METRICS_INTERVAL},
    "rules": {"type": "bool", "default": False},
}
ROUTER_ROUTE = {
    "interfaces": {**NAMES, "required": True},
    "mark": {"type": "str", "default": str(Mark())},
    "table": {"type": "int", "default": ROUTE_TABLE},
    "priority": {"type": "int", "default": ROUTE_PRIORITY},
    "families": {"type": "list", "elements": "str", "choices": list(FAMILY_NAMES), "default": list(FAMILY_NAMES)},
}


def tproxy_router() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_router."""
    return _copy(
        argument_spec={
            "state": {"type": "str", "choices": list(ROUTER_STATES), "default": MERGED},
            "interfaces": {"type": "list", "elements": "dict", "options": ROUTER_INTERFACE},
            "rules": {"type": "list", "elements": "dict", "options": {**RULE, "owner": {"type": "str"}}},
            "layers": {"type": "dict"},
            "owner": {"type": "str", "default": DEFAULT_OWNER},
            "purge": {"type": "bool", "default": False},
            "running_config": {"type": "dict"},
            "rendered_as": {"type": "str", "choices": [MERGED, REPLACED], "default": MERGED},
            "routes": {"type": "list", "elements": "dict", "options": ROUTER_ROUTE},
            "flow_tables": {"type": "dict", "options": {name: {"type": "int"} for name in FLOW_TABLES}},
            "persist": {"type": "bool", "default": True},
            "failure": FAILURE,
            "cli": {"type": "bool", "default": True},
            "helper": {"type": "dict", "options": {"group": {"type": "str", "default": ""}}},
            "metrics": {"type": "dict", "options": METRICS},
            "force": FORCE,
            **PROGRAM,
            **CONFIRM,
            "pin_dir": PIN,
        },
        mutually_exclusive=[("source", "blob")],
    )


def ifindex_ip() -> Arguments:
    """Return the arguments of AnsibleModule for ifindex_ip."""
    return _copy(
        argument_spec={
            "interfaces": {**NAMES, "aliases": ["interface"]},
            "addresses": NAMES,
            "purge": {"type": "bool", "default": False},
            "state": STATE,
            **CONFIRM,
            "pin_dir": PIN,
        },
    )


def tproxy_route() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_route."""
    return _copy(
        argument_spec={
            "interfaces": {**NAMES, "required": True, "aliases": ["interface"]},
            "mark": {"type": "str", "default": str(Mark())},
            "table": {"type": "int", "default": ROUTE_TABLE},
            "priority": {"type": "int", "default": ROUTE_PRIORITY},
            "state": STATE,
            **TOKEN,
            "pin_dir": PIN,
        },
    )


def tproxy_confirm() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_confirm."""
    return _copy(
        argument_spec={
            "state": {"type": "str", "choices": ["confirmed", "rolled_back", "begun"], "default": "confirmed"},
            "token": {"type": "str", "no_log": False},
            "confirm_timeout": {"type": "int"},
            "pin_dir": PIN,
        },
        required_if=[("state", "begun", ["confirm_timeout"])],
    )


FLOW = {
    "interface": {"type": "str"},
    "source": {"type": "str"},
    "source_port": {"type": "str"},
    "destination": {"type": "str"},
    "protocol": {"type": "str"},
    "port": {"type": "str"},
    "expect": {"type": "raw"},
}


def tproxy_verdict() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_verdict."""
    return _copy(
        argument_spec={**FLOW, "flows": {"type": "list", "elements": "dict", "options": FLOW}, "pin_dir": PIN},
        required_one_of=[("destination", "flows")],
        mutually_exclusive=[(name, "flows") for name in FLOW],
    )


def tproxy_state() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_state."""
    return _copy(
        argument_spec={
            "path": {"type": "path", "default": STATE_FILE},
            "failure": FAILURE,
            "state": STATE,
            "pin_dir": PIN,
        },
    )


def tproxy_cli() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_cli."""
    return _copy(
        argument_spec={
            "path": {"type": "path", "default": EXECUTABLE},
            "links": {"type": "bool", "default": True},
            "state": STATE,
            "pin_dir": PIN,
        },
    )


def tproxy_info() -> Arguments:
    """Return the arguments of AnsibleModule for tproxy_info."""
    return _copy(
        argument_spec={
            "gather_subset": {"type": "list", "elements": "str", "choices": ["all", *INFO_MEMBERS], "default": ["all"]},
            "drops": {"type": "int", "default": 20},
            "pin_dir": PIN,
        }
    )


def _copy(**arguments: Any) -> Arguments:
    """Return a deep copy, because AnsibleModule changes the specification that it gets."""
    return {**deepcopy(arguments), "supports_check_mode": True}
