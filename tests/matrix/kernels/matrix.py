# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of a kernel's interfaces in the kernels of kernels.lock, one emulated machine each; see `run`.

Not all of them: see ASKING.

Exit status 0: all passed, or there was no kernel to be had (said aloud). 1: a test failed, a kernel complained, or a
package is not the locked one; with REQUIRE_KERNELS=1 also when there was no kernel to be had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import choose
import machine
import rootfs
from architecture import ARCHITECTURES, Architecture
from lock import read_lock, read_userland, write_lock, write_userland
from mirror import Mirror, Missing, Unreachable, WrongDigest

from ansible_collections.netedge.tproxy.tests.support.splicer import our_blob

WORK = pathlib.Path(os.environ["WORK"])
CACHE, LOGS = WORK / "kernels", WORK / "log"
AT_ONCE = 2
FAULTS_SHOWN = 20
COLUMNS = "{:8} {:28} {:8} {:>6} {:>8} {:>8} {:>10} {:>8}"
APPARMOR = "tests/contract/test_apparmor.py"  # the kernel of a developer's machine may lack it
PLACES = "tests/kernel", "tests/fuzz", APPARMOR
# The tests that depend on the kernel: adapters, program, real packets, the fuzzer's cases. The others are left out: new
# setups of the fuzzer, the choice of a rule (classify: arithmetic), the operations (attach, pins, refusals, ...). They
# make the same kernel calls, and each of their tests loads the program, which takes 5 s on an emulated processor.
ASKING = (
    "tests/kernel/adapters/test_*.py",
    *(f"tests/kernel/program/test_{name}.py" for name in ("packets", "always_allowed", "rules", "maps", "fail_closed")),
    "tests/kernel/program/test_confirm_deadline.py",
    *(
        f"tests/kernel/traffic/test_{name}.py"
        for name in ("sessions", "path", "link", "wire", "splice", "reasons", "listeners")
    ),
    "tests/kernel/operations/test_clock.py",
    APPARMOR,
    "tests/fuzz/test_cases.py::test_case",
)


class Row(NamedTuple):
    """One kernel of the table."""

    kernel: str
    seconds: float
    outcome: machine.Outcome


def main() -> int:
    """Run the tests that the options choose."""
    options = _options()
    CACHE.mkdir(parents=True, exist_ok=True)
    architecture = ARCHITECTURES[options.arch]
    if options.update_lock:
        _update_lock(architecture)
        return 0
    lock = read_lock(_lock_of(architecture).read_text(encoding="utf-8"))
    wanted = _wanted(lock, options.only)
    kernels, absent = _fetched(architecture, {kernel: lock[kernel] for kernel in wanted})
    rows = _run_all(architecture, kernels, options) if kernels else []
    return _report(rows, absent)


def _lock_of(architecture: Architecture) -> pathlib.Path:
    return rootfs.HERE / ("kernels.lock" if architecture.name == "amd64" else f"kernels-{architecture.name}.lock")


def _userland_of(architecture: Architecture) -> pathlib.Path:
    return rootfs.HERE / f"userland-{architecture.name}.lock"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "tests/matrix/kernels/run", description="Run the tests against the kernel in other kernels."
    )
    parser.add_argument("--only", metavar="KERNEL", action="append", nargs="+", help="these kernels of kernels.lock")
    parser.add_argument(
        "--tests", metavar="FILE", nargs="+", default=[], help="these files alone, of tests/kernel without a folder"
    )
    parser.add_argument("--all", action="store_true", help="leave nothing out (some 10 minutes for each kernel)")
    parser.add_argument("--keep", action="store_true", help="keep what was booted, and say how to boot it again")
    parser.add_argument("--jobs", type=int, choices=range(1, AT_ONCE + 1), default=AT_ONCE, help="guests at a time")
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default="amd64", help="the processor (amd64)")
    parser.add_argument("--processors", type=int, default=1, metavar="N", help="processors of a guest (1)")
    parser.add_argument("--memory", type=int, default=machine.MEMORY_MIB, metavar="MIB", help="memory of a guest (768)")
    parser.add_argument("--add", metavar="INSIDE=PATH", nargs="+", default=[], help="programs and folders")
    parser.add_argument("--update-lock", action="store_true", help="write kernels.lock anew from the mirror's indexes")
    return parser.parse_args()


def _update_lock(architecture: Architecture) -> None:
    mirror = Mirror(CACHE, architecture.name)
    candidates = choose.newest(mirror, architecture.flavour)
    _lock_of(architecture).write_text(write_lock(candidates), encoding="utf-8")
    packages = [package for one in candidates for package in one.packages]
    if not architecture.is_own:
        userland = choose.userland(mirror)
        _userland_of(architecture).write_text(write_userland(userland), encoding="utf-8")
        packages += userland
    mirror.forget_all_but(packages)


def _wanted(lock: dict, only: list | None) -> list:
    wanted = [kernel for group in only or [list(lock)] for kernel in group]
    foreign = [kernel for kernel in wanted if kernel not in lock]
    if foreign:
        raise SystemExit(f"kernels.lock has no {', '.join(foreign)}: choose from {', '.join(lock)}")
    return wanted


# ---- what is booted -----------------------------------------------------------------------------------


def _fetched(architecture: Architecture, lock: dict) -> tuple:
    """Return ({kernel: its packages' files}, {kernel: why there is none})."""
    if not architecture.is_own and not _userland_of(architecture).exists():
        return {}, dict.fromkeys(lock, f"guests run this machine's Python, which is not for {architecture.name}")
    if not shutil.which(architecture.qemu[0]):
        return {}, dict.fromkeys(lock, f"this machine has no {architecture.qemu[0]}")
    mirror, found, absent = Mirror(CACHE, architecture.name), {}, {}
    for kernel, candidates in lock.items():
        for candidate in candidates:
            try:
                found[kernel] = [mirror.fetch(package) for package in candidate.packages]
                break
            except (Missing, Unreachable) as why:
                absent[kernel] = str(why)
    return found, {kernel: why for kernel, why in absent.items() if kernel not in found}


def _run_all(architecture: Architecture, kernels: dict, options: argparse.Namespace) -> list:
    tests = _tests(options)
    base = rootfs.base(CACHE, architecture, _userland(architecture))
    expected, checkout = _expected(tests), rootfs.checkout(our_blob().to_json(), tests)
    for inside, _sign, path in (given.partition("=") for given in options.add):
        checkout += rootfs.added(inside, pathlib.Path(path))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))

    def run(kernel: str) -> Row:
        image, initrd = folder / f"vmlinuz-{kernel}", folder / f"initrd-{kernel}"
        code, modules = rootfs.kernel(kernels[kernel], architecture)
        image.write_bytes(code)
        initrd.write_bytes(base.read_bytes() + modules + checkout)
        words = machine.command(architecture, options.processors, image, initrd, options.memory)
        return _boot(kernel, words, LOGS / f"kernels-{architecture.name}-{kernel}.log", expected)

    with contextlib.ExitStack() as end, ThreadPoolExecutor(options.jobs) as several:
        if not options.keep:
            end.callback(shutil.rmtree, folder)
        return list(several.map(run, kernels))


def _userland(architecture: Architecture) -> list:
    """Return the files of the packages with a guest's programs, none if they are those of this machine."""
    if architecture.is_own:
        return []
    mirror = Mirror(CACHE, architecture.name)
    return [mirror.fetch(package) for package in read_userland(_userland_of(architecture).read_text(encoding="utf-8"))]


def _tests(options: argparse.Namespace) -> list:
    """Return the files or folders with the tests that run in a guest."""
    if options.tests:
        return [name if name.startswith("tests/") else f"tests/kernel/{name}" for name in options.tests]
    if options.all:
        return list(PLACES)
    return [found for pattern in ASKING for found in _found(*pattern.partition("::"))]


def _found(pattern: str, *test: str) -> list:
    """Return the files that a pattern names, each with the name of the test behind it."""
    paths = sorted(path.relative_to(rootfs.CHECKOUT) for path in rootfs.CHECKOUT.glob(pattern))
    return ["".join((str(path), *test)) for path in paths]


def _boot(kernel: str, words: list, log: pathlib.Path, expected: int) -> Row:
    start = time.monotonic()
    print(f"{kernel}: booting; its words are in {log.relative_to(rootfs.CHECKOUT)}", flush=True)
    stopped = machine.boot(words, log)
    told = log.read_text(encoding="utf-8", errors="replace")
    return Row(kernel, time.monotonic() - start, machine.judge(told, stopped, expected))


def _expected(tests: list) -> int:
    """Return how many tests there are."""
    options = ["--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=rootfs.CHECKOUT,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the tests cannot be read:\n{done.stdout}{done.stderr}")
    return sum("::" in line for line in done.stdout.splitlines())


# ---- what is said --------------------------------------------------------------------------------------------


def _report(rows: list, absent: dict) -> int:
    print(COLUMNS.format("kernel", "release", "result", "tests", "skipped", "seconds", "processed", "program"))
    for kernel, seconds, told in rows:
        result = "FAIL" if told.faults else "PASS"
        figures = (told.passed, len(told.skipped), f"{seconds:.0f}", told.processed, told.instructions)
        print(COLUMNS.format(kernel, told.release, result, *figures))
    for kernel in absent:
        print(COLUMNS.format(kernel, "", "SKIPPED", "", "", "", "", ""))
    for kernel, _seconds, told in rows:
        for fault in told.faults[:FAULTS_SHOWN]:
            print(f"{kernel}: {fault}")
        if len(told.faults) > FAULTS_SHOWN:
            print(f"{kernel}: and {len(told.faults) - FAULTS_SHOWN} faults more")
    for kernel, why in absent.items():
        print(f"SKIPPED {kernel}: NOTHING WAS TESTED IN THIS KERNEL: {why}")
    _count(rows, absent)
    failed = any(told.faults for _kernel, _seconds, told in rows)
    return 1 if failed or (absent and os.environ.get("REQUIRE_KERNELS") == "1") else 0


def _count(rows: list, absent: dict) -> None:
    """Write the counts for tools/run_tests: passed, failed, skipped."""
    told = [row.outcome for row in rows]
    passed, skipped = sum(one.passed for one in told), sum(len(one.skipped) for one in told)
    numbers = passed, sum(len(one.faults) for one in told), skipped + len(absent)
    (LOGS / "kernels.count").write_text("%d %d %d\n" % numbers, encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (WrongDigest, Unreachable, FileNotFoundError) as fault:
        sys.exit(str(fault))
