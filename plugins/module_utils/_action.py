# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What a rule does, as struct action of bpf/abi.h and back. It knows one rule at a time and no image."""

from __future__ import annotations

from functools import lru_cache

from ._codec import decode, encode
from ._layout import ACTION_DROP, ACTION_PASS, ACTION_PASS_WHEN_MISSING, ACTION_TPROXY
from ._prefix import format_address, parse_address
from ._rule import Rule

KINDS = {"pass": ACTION_PASS, "drop": ACTION_DROP, "tproxy": ACTION_TPROXY}
KIND_NAMES = {kind: name for name, kind in KINDS.items()}
MISSING_FLAGS = {"": 0, "drop": 0, "pass": ACTION_PASS_WHEN_MISSING}


def encode_action(rule: Rule) -> bytes:
    """Return struct action."""
    return _encode(rule.action, rule.tproxy_ip, rule.tproxy_port, rule.on_missing)


@lru_cache(maxsize=4096)  # many rules, few proxies
def _encode(action: str, tproxy_ip: str, tproxy_port: int, on_missing: str) -> bytes:
    return encode(
        "action",
        {
            "tproxy_ip": parse_address(tproxy_ip) if tproxy_ip else bytes(16),
            "tproxy_port": tproxy_port,
            "kind": KINDS[action],
            "flags": MISSING_FLAGS[on_missing],
        },
    )


@lru_cache(maxsize=4096)
def decode_action(raw: bytes) -> tuple:
    """Return (action, tproxy_ip, tproxy_port, on_missing) in the canonical form of a rule; action "" is none."""
    values = decode("action", raw)
    action = KIND_NAMES.get(values["kind"], "")
    if action != "tproxy":
        return action, "", values["tproxy_port"], ""
    on_missing = "pass" if values["flags"] & ACTION_PASS_WHEN_MISSING else "drop"
    return action, format_address(values["tproxy_ip"]), values["tproxy_port"], on_missing
