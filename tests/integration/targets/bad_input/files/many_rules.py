# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write 200,000 rules as the arguments of tproxy_rule: many_rules.py FILE."""

from __future__ import annotations

import json
import sys

COUNT = 200_000


def rule(number: int) -> dict:
    """Return a rule that no other number has."""
    destination = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return {"destination": destination, "protocol": "tcp", "ports": "80", "tproxy_port": 5001}


def main() -> None:
    """Write them."""
    with open(sys.argv[1], "w", encoding="ascii") as out:
        json.dump({"ANSIBLE_MODULE_ARGS": {"rules": [rule(number) for number in range(COUNT)]}}, out)


if __name__ == "__main__":
    main()
