# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the answer of tproxy_info for each router, as tables: rules with hits, reasons of passes and drops."""

from __future__ import annotations

import json
import pathlib
import sys


def main() -> None:
    """Read one file for each router from the folder that is named."""
    for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        show(path.name, json.loads(path.read_text(encoding="utf-8")))


def show(router: str, state: dict) -> None:
    """Print one router's tables."""
    print(f"    {router}  generation {state['generation']}, image {state['image']['bytes'] // 1024} KiB")
    for rule in state["rules"]:
        flow = f"{rule['protocol']} {rule['destination']} {rule['ports']}"
        print(f"        {rule['name']:16} {flow:38} {rule['action']:7} {rule['hits']['packets']:4} hits")
    for attachment in state["attachments"]:
        for reason, counts in attachment["reasons"].items():
            passed, dropped = counts["passed"]["packets"], counts["dropped"]["packets"]
            print(f"        {attachment['interface']} {reason:14} {passed:6} passed {dropped:6} dropped")
    for finding in state["findings"]:
        print(f"        {finding['severity']}: {finding['found']}")


if __name__ == "__main__":
    main()
