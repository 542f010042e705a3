# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options of a router as YAML, one line for each rule.

Each text is quoted as in JSON, which is YAML. So the router needs no library, and the same state gives the same text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def option_lines(options: Mapping[str, Any]) -> list[str]:
    """Return a line for each option, and one for each entry of a list, below the line of its option."""
    found = []
    for name, value in options.items():
        if isinstance(value, list) and value:
            found += [f"{name}:", *(f"  - {_flow_style(entry)}" for entry in value)]
        else:
            found.append(f"{name}: {_flow_style(value)}")
    return found


def _flow_style(value: object) -> str:
    """Return a value in the flow style of YAML. The keys are names of options, which need no quotes."""
    if isinstance(value, dict):
        return "{%s}" % ", ".join(f"{name}: {_flow_style(each)}" for name, each in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_flow_style, value))}]"
    return json.dumps(value)
