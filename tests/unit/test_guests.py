# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results that the kernel matrix reads from the output of a guest.

The guests are shells here; what finds a kernel's complaints is the guest's own line.
"""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess

import pytest

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "matrix" / "kernels"
PASSED = "VERIFIER 300000 3000\nSKIPPED tests/a.py::test_vlan this kernel has no VLAN devices\nRESULT PASS 6.1.0 2\n"
EXPECTED = 3


@pytest.fixture(scope="module")
def machine():
    """Return tests/matrix/kernels/machine.py, which is part of a script and in no package."""
    spec = importlib.util.spec_from_file_location("machine", KERNELS / "machine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def splats(log: str) -> str:
    """Return the lines that the guest prints for a kernel log, by the third last command of its init."""
    line = next(line for line in (KERNELS / "guest/init").read_text(encoding="utf-8").splitlines() if "dmesg" in line)
    command = line.replace("dmesg", "cat", 1)
    return subprocess.run(["sh", "-c", command], input=log, capture_output=True, text=True, check=False).stdout


def outcome(machine, folder: pathlib.Path, script: str):
    """Return the result for a guest that runs a shell script."""
    log = folder / "guest.log"
    stopped = machine.boot(["sh", "-c", script], log)
    return machine.judge(log.read_text(encoding="utf-8"), stopped, EXPECTED)


def say(text: str) -> str:
    return f"cat << 'STOP'\n{text}\nSTOP\n"


def test_a_guest_that_ends_well_has_no_fault(machine, tmp_path):
    told = outcome(machine, tmp_path, say(f"booting\n{PASSED}END"))
    assert not told.faults
    assert (told.release, told.passed, told.processed, told.instructions) == ("6.1.0", 2, "300000", "3000")
    assert told.skipped == {"tests/a.py::test_vlan": "this kernel has no VLAN devices"}


LOGS = {
    "warning": "[    5.1] WARNING: CPU: 0 PID: 77 at net/core/filter.c:7000 bpf_sk_assign+0x1a/0x30",
    "bug": "[    5.1] BUG: kernel NULL pointer dereference, address: 0000000000000010",
    "oops": "[    5.1] Oops: 0000 [#1] SMP NOPTI",
    "undefined": "[    5.1] UBSAN: array-index-out-of-bounds in kernel/bpf/verifier.c:1",
}


@pytest.mark.parametrize("name", LOGS)
def test_a_kernel_that_complains_fails_although_every_test_passed(machine, tmp_path, name):
    found = splats(f"[    0.0] Linux version 6.1.0\n{LOGS[name]}\n[    6.0] lan0: link becomes ready\n")
    told = outcome(machine, tmp_path, say(f"{PASSED}{found}END"))
    assert told.faults == [f"kernel: {LOGS[name]}"]


def test_a_log_without_complaint_says_nothing():
    assert splats("[    0.0] Linux version 6.1.0\n[    6.0] lan0: link becomes ready\n") == ""


def test_a_guest_that_is_killed_fails(machine, tmp_path):
    """A panic ends qemu in the same way, without a result and without the last line."""
    told = outcome(machine, tmp_path, say("tests/a.py::test_one PASSED") + "kill -KILL $$")
    assert told.faults == ["no result: it ended; its last words: tests/a.py::test_one PASSED"]


def test_a_guest_that_falls_silent_is_stopped_and_fails(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROUND_SECONDS", 1)
    monkeypatch.setattr(machine, "SILENCE_SECONDS", 1)
    told = outcome(machine, tmp_path, say("tests/a.py::test_one") + "exec sleep 600")
    assert told.faults == ["no result: it said nothing for 1 s; its last words: tests/a.py::test_one"]


WORDS = {
    "a failed test": (
        f"FAILED tests/a.py::test_one\n{PASSED}END".replace("PASS 6", "FAIL 6"),
        "failed: tests/a.py::test_one",
    ),
    "an end before the result": ("BOOTED 6.1.0\nEND", "no result: it ended; its last words: END"),
    "a result before the end": (PASSED, "no result: it ended; its last words: RESULT PASS 6.1.0 2"),
    "a test that never ran": (
        f"{PASSED}END".replace("6.1.0 2", "6.1.0 1"),
        "1 tests passed and 1 were skipped, but there are 3",
    ),
    "a skip without a good reason": (
        f"{PASSED}END".replace("this kernel has no", "I did not like"),
        "skipped: tests/a.py::test_vlan: I did not like VLAN devices",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_whatever_else_is_wrong_fails(machine, tmp_path, name):
    said, fault = WORDS[name]
    assert outcome(machine, tmp_path, say(said)).faults == [fault]
