# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot one kernel under qemu and judge its serial line. The words decide, never the time: only a guest that is silent
for long is stopped.

Emulated (TCG) always: that /dev/kvm opens says nothing about whether a kernel boots under it. There is no network
device, so nothing of a test can get out.

    VERIFIER processed instructions    the program in this kernel
    SKIPPED test reason                a test that did not run
    FAILED test
    RESULT PASS|FAIL kernel tests      of the tests that ran
    SPLAT line                         a complaint of the kernel
    END
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from architecture import Architecture

MEMORY_MIB = 768
# Each test says a line. The rest is for a guest that talks for ever.
SILENCE_SECONDS, TIMEOUT_SECONDS, ROUND_SECONDS = 300, 3600, 5
GUARD = ("setpriv", "--pdeathsig", "KILL")
OPTIONS = (
    *("-accel", "tcg"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
)
# No watchdog: on a busy machine an emulated processor may well stand still for a while.
COMMAND_LINE = (
    "quiet panic=-1 audit=0 random.trust_cpu=on nowatchdog"
    " rcupdate.rcu_cpu_stall_suppress=1 nokaslr mitigations=off init_on_alloc=0 hardened_usercopy=off"  # time alone
)
# Why a test may stay out of a guest: it compiles, or the kernel or the mirror lacks what it is about.
RIGHTFUL = re.compile(r"no compiler\b|this kernel\b|no apparmor_parser\b")


class Outcome(NamedTuple):
    """The result of a guest. `faults` is empty when all is well."""

    release: str
    passed: int
    skipped: dict
    processed: str
    instructions: str
    faults: list


def command(
    architecture: Architecture, processors: int, image: pathlib.Path, initrd: pathlib.Path, memory: int = MEMORY_MIB
) -> list:
    """Return the words that start a guest."""
    line = f"console={architecture.console} {COMMAND_LINE} {architecture.options}"
    files = ("-kernel", str(image), "-initrd", str(initrd), "-append", line)
    return [*GUARD, *architecture.qemu, *OPTIONS, "-smp", str(processors), "-m", str(memory), *files]


def boot(words: list, log: pathlib.Path) -> str:
    """Run a guest until it ends, its serial line into `log`; return why it had to be stopped, or nothing."""
    with log.open("wb") as told, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=told, stderr=told) as guest:
        try:
            return _watch(guest, log)
        finally:
            guest.kill()


def _watch(guest: subprocess.Popen, log: pathlib.Path) -> str:
    heard, silent = 0, 0
    for _round in range(TIMEOUT_SECONDS // ROUND_SECONDS):
        with contextlib.suppress(subprocess.TimeoutExpired):
            guest.wait(ROUND_SECONDS)
            return ""
        before, heard = heard, log.stat().st_size
        silent = silent + ROUND_SECONDS if heard == before else 0
        if silent >= SILENCE_SECONDS:
            return f"it said nothing for {SILENCE_SECONDS} s"
    return f"it was not done after {TIMEOUT_SECONDS} s"


def judge(told: str, stopped: str, expected: int) -> Outcome:
    """Return the outcome in a guest's serial output. `stopped` is boot()'s result, `expected` the number of tests."""
    lines = [line.strip() for line in told.splitlines()]
    results = _after(lines, "RESULT")
    verdict, release, passed = results[-1].split() if results else ("", "", "0")
    skipped = dict(line.partition(" ")[::2] for line in _after(lines, "SKIPPED"))
    processed, instructions = (_after(lines, "VERIFIER") or ["- -"])[-1].split()
    faults = [f"failed: {test}" for test in _after(lines, "FAILED")]
    faults += [f"kernel: {line}" for line in _after(lines, "SPLAT")]
    faults += [f"skipped: {test}: {why}" for test, why in skipped.items() if not RIGHTFUL.match(why)]
    if not results or "END" not in lines:
        last = next((line for line in reversed(lines) if line), "nothing")
        faults.append(f"no result: {stopped or 'it ended'}; its last words: {last}")
    elif verdict != "PASS" and not faults:
        faults.append("FAIL without a failed test")
    elif int(passed) + len(skipped) < expected and not faults:
        faults.append(f"{passed} tests passed and {len(skipped)} were skipped, but there are {expected}")
    return Outcome(release, int(passed), skipped, processed, instructions, faults)


def _after(lines: list, word: str) -> list:
    """Return the rest of the lines that begin with a word; console messages of the kernel begin otherwise."""
    return [line[len(word) + 1 :] for line in lines if line.startswith(f"{word} ")]
