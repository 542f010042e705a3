# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Option specifications, for modules, the role and the tests: each option's name, type and default stands here once."""

from __future__ import annotations

from copy import deepcopy

from ..constants import EXECUTABLE, FUNCTION, HANDLE, PIN_DIR, PRIORITY, ROUTE_PRIORITY, ROUTE_TABLE, STATE_FILE
from ..model.policy import Mark
from ..model.saved_state import FAIL_CLOSED, FAIL_OPEN

STATE = {"type": "str", "choices": ["present", "absent"], "default": "present"}
PIN = {"type": "path", "default": PIN_DIR}
FORCE = {"type": "bool", "default": False}
NAMES = {"type": "list", "elements": "str"}

# Neither choices nor numbers here: Ansible would stop at the first fault of a list, _rule_options names them all.
RULE = {
    "destination": {"type": "str"},
    "source": {"type": "str"},
    "protocol": {"type": "str"},
    "ports": {"type": "str", "aliases": ["port"]},
    "interfaces": NAMES,
    "action": {"type": "str"},
    "tproxy_ip": {"type": "str"},
    "tproxy_port": {"type": "str"},
    "on_missing": {"type": "str"},
    "name": {"type": "str"},
}

MANAGEMENT = {
    "source": {"type": "str"},
    "protocol": {"type": "str", "default": "tcp"},
    "port": {"type": "str"},
}

POLICY = {
    "default_action": {"type": "str", "choices": ["drop", "pass"], "default": "drop"},
    "allow_ssh": {"type": "bool", "default": True},
    "allow_echo": {"type": "bool", "default": False},
    "accept": {"type": "str", "choices": ["ok", "unspec"], "default": "ok"},
    "management": {"type": "list", "elements": "dict", "default": [], "options": MANAGEMENT},
}


# What every module that changes something can be part of. A token tells changes apart; it is no secret.
TOKEN = {"confirm_token": {"type": "str", "no_log": False}}
CONFIRM = {**TOKEN, "confirm_timeout": {"type": "int", "default": 0}}


def tproxy_rule() -> dict:
    """Return the arguments of AnsibleModule for tproxy_rule."""
    items = {**RULE, "owner": {"type": "str"}}
    return _copy(
        argument_spec={
            **RULE,
            "rules": {"type": "list", "elements": "dict", "options": items},
            "owner": {"type": "str", "default": "ansible"},
            "purge": {"type": "bool", "default": False},
            "force": FORCE,
            "state": STATE,
            **CONFIRM,
            "pin_dir": PIN,
        },
        required_one_of=[("destination", "rules")],
        mutually_exclusive=[(name, "rules") for name in RULE],
    )


def tc_bpf_attach() -> dict:
    """Return the arguments of AnsibleModule for tc_bpf_attach."""
    return _copy(
        argument_spec={
            "interface": {"type": "str", "required": True, "aliases": ["dev"]},
            "direction": {"type": "str", "choices": ["ingress", "egress"], "default": "ingress"},
            "state": STATE,
            "source": {"type": "str"},
            "source_files": {"type": "dict"},
            "function": {"type": "str", "default": FUNCTION},
            "defines": {"type": "dict", "default": {}},
            "compile_on": {"type": "str", "choices": ["target", "controller"], "default": "target"},
            "compiled": {"type": "dict"},
            "blob": {"type": "str"},
            "blob_content": {"type": "str"},
            "priority": {"type": "int", "default": PRIORITY},
            "handle": {"type": "int", "default": HANDLE},
            "policy": {"type": "dict", "options": POLICY},
            "force": FORCE,
            **CONFIRM,
            "pin_dir": PIN,
        },
        mutually_exclusive=[("source", "blob")],
    )


def ifindex_ip() -> dict:
    """Return the arguments of AnsibleModule for ifindex_ip."""
    return _copy(
        argument_spec={
            "interfaces": {**NAMES, "aliases": ["interface"]},
            "addresses": NAMES,
            "purge": {"type": "bool", "default": False},
            "state": STATE,
            **TOKEN,
            "pin_dir": PIN,
        },
    )


def tproxy_route() -> dict:
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


def tproxy_confirm() -> dict:
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


def tproxy_verdict() -> dict:
    """Return the arguments of AnsibleModule for tproxy_verdict."""
    return _copy(
        argument_spec={**FLOW, "flows": {"type": "list", "elements": "dict", "options": FLOW}, "pin_dir": PIN},
        required_one_of=[("destination", "flows")],
        mutually_exclusive=[(name, "flows") for name in FLOW],
    )


def tproxy_state() -> dict:
    """Return the arguments of AnsibleModule for tproxy_state."""
    return _copy(
        argument_spec={
            "path": {"type": "path", "default": STATE_FILE},
            "failure": {"type": "str", "choices": [FAIL_OPEN, FAIL_CLOSED], "default": FAIL_OPEN},
            "state": STATE,
            "pin_dir": PIN,
        },
    )


def tproxy_cli() -> dict:
    """Return the arguments of AnsibleModule for tproxy_cli."""
    return _copy(
        argument_spec={
            "path": {"type": "path", "default": EXECUTABLE},
            "links": {"type": "bool", "default": True},
            "state": STATE,
            "pin_dir": PIN,
        },
    )


def tproxy_info() -> dict:
    """Return the arguments of AnsibleModule for tproxy_info."""
    return _copy(argument_spec={"pin_dir": PIN})


def _copy(**arguments) -> dict:
    """Return specifications that share nothing: AnsibleModule writes into what it is given."""
    return {**deepcopy(arguments), "supports_check_mode": True}
