# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the guest: the tests of tests/kernel as the host runs them, and the verifier's figures of the program."""

from __future__ import annotations

import os
import pathlib
import re
import sys
import traceback

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[4]
# Without pytest's own summary (-r N): its lines begin like ours.
OPTIONS = ["-v", "-r", "N", "--color=no", "--tb=short", "--durations=10", "-p", "no:cacheprovider"]


class Tally:
    """A pytest plugin: how many tests passed, failed, were skipped and why."""

    def __init__(self):
        self.passed, self.failed, self.skipped = set(), set(), {}

    def pytest_collectreport(self, report) -> None:
        """Note a file that cannot be read."""
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_runtest_logreport(self, report) -> None:
        """Note the result of a test's set-up, call or tear-down."""
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped:
            self.skipped[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")
        elif report.when == "call":
            self.passed.add(report.nodeid)


def tell_verifier() -> None:
    """Print the instructions that the verifier processed, and those that the program has."""
    from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
    from ansible_collections.netedge.tproxy.tests.support.splicer import new_maps, our_blob

    blob = our_blob()
    summary = bpf.verified_instructions(blob.bind(new_maps(blob)), blob.function)
    print("VERIFIER", re.search(r"processed (\d+) insns", summary)[1], blob.count)


def main() -> None:
    """Run all tests and print the lines that the runner reads."""
    tally = Tally()
    selection = (CHECKOUT / "selection").read_text(encoding="utf-8").split()
    status = pytest.main([*OPTIONS, *selection], plugins=[tally])
    try:
        tell_verifier()
    except Exception:
        traceback.print_exc()
        status = 1
    for test, reason in tally.skipped.items():
        print("SKIPPED", test, reason.replace("\n", " "))
    for test in sorted(tally.failed):
        print("FAILED", test)
    verdict = "FAIL" if status or tally.failed else "PASS"
    print("RESULT", verdict, os.uname().release, len(tally.passed - tally.failed), flush=True)


if __name__ == "__main__":
    sys.exit(main())
