# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the least covered files and the totals of a report by `coverage json`, lines and branches apart."""

from __future__ import annotations

import json
import pathlib
import sys

SHOWN = 20


def main(path: str) -> None:
    """Print the table."""
    report = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    by_share = sorted((entry["summary"]["percent_covered"], name) for name, entry in report["files"].items())
    print(f"{'lines':>16}{'branches':>17}")
    for _share, name in by_share[:SHOWN]:
        print(describe(report["files"][name]["summary"]), name[name.find("plugins/") :])
    print(describe(report["totals"]), f"total of {len(by_share)} files")


def describe(summary: dict[str, int]) -> str:
    """Return covered lines and branches, with their shares in percent."""
    lines = _share(summary["covered_lines"], summary["num_statements"])
    return f"{lines} {_share(summary['covered_branches'], summary['num_branches'])}"


def _share(covered: int, total: int) -> str:
    percent = 100 * covered / total if total else 100
    return f"{covered:5}/{total:<5}{percent:3.0f} %"


if __name__ == "__main__":
    main(sys.argv[1])
