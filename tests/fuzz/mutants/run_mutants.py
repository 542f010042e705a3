# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply each mutant to a scratch copy and run the fuzzer on it. Exit status 1 if the fuzzer misses one."""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import of_fragments
import of_the_compiler
import of_the_program
from of_the_program import Mutant

ALL = of_the_program.MUTANTS + of_fragments.MUTANTS + of_the_compiler.MUTANTS
ROOT = pathlib.Path(__file__).resolve().parents[3]
PARTS = ("bpf", "plugins/module_utils", "tests/fuzz", "tests/support")
KILLED = re.compile(r"^killed by: (\w+)", re.M)
SECONDS = 600


def main() -> int:
    """Run the mutants with one of the given words in their file or fault, and print a table."""
    parser = argparse.ArgumentParser("tests/fuzz/mutants/run", description="Does the fuzzer see faults of one line?")
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in file or fault")
    parser.add_argument(
        "--packets", type=int, default=120_000, help="the fuzzer must find a mutant within so many packets (120000)"
    )
    parser.add_argument("--seed", default="mutants", help="of the fuzzer")
    options = parser.parse_args()
    chosen = [one for one in ALL if _is_asked_for(one, options.words)]
    with tempfile.TemporaryDirectory(prefix="tproxy_mutants_") as folder:
        scratch = pathlib.Path(folder)
        for part in PARTS:
            shutil.copytree(ROOT / part, scratch / part, ignore=shutil.ignore_patterns("__pycache__"))
        return _try_all(scratch, chosen, options)


def _is_asked_for(mutant: Mutant, words: list) -> bool:
    return not words or any(word in f"{mutant.file} {mutant.breaks}" for word in words)


def _try_all(scratch: pathlib.Path, chosen: list, options: argparse.Namespace) -> int:
    outcome = _fuzz(scratch, options)
    print(f"{'nothing changed':32} {outcome}", flush=True)
    if outcome != "survived":
        return 1
    killed = 0
    for mutant in chosen:
        outcome = _try(scratch, mutant, options)
        killed += outcome.startswith("killed")
        print(f"{mutant.file.split('/')[-1]:20} {outcome:20} {mutant.breaks}", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed")
    return 0 if killed == len(chosen) else 1


def _try(scratch: pathlib.Path, mutant: Mutant, options: argparse.Namespace) -> str:
    """Return the result of a mutant. Restore the copy afterwards."""
    path = scratch / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return f"NOT ONE SUCH LINE: {mutant.old}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return _fuzz(scratch, options)
    finally:
        path.write_text(text, encoding="utf-8")


def _fuzz(scratch: pathlib.Path, options: argparse.Namespace) -> str:
    command = [sys.executable, scratch / "tests/fuzz/fuzz.py", "--seed", options.seed, "--cases", scratch / "cases"]
    command += ["--packets", str(options.packets)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"FAILED: not done within {SECONDS} s"
    by = KILLED.search(done.stdout)
    if done.returncode == 1 and by:
        return f"killed by {by[1]}"
    return "survived" if done.returncode == 0 else f"FAILED\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


if __name__ == "__main__":
    sys.exit(main())
