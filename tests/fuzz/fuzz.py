# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares program and model on random setups and packets; see README.md.

Exit status: 0 all alike and every reason seen; 1 a difference; 2 the program could not be compiled or loaded.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import runpy
import sys
import time
from collections import Counter

if __package__ is None or __package__ == "":
    runpy.run_path(str(pathlib.Path(__file__).resolve().parents[1] / "support" / "collection.py"))["register"]()

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError, VerificationFailed
from ansible_collections.netedge.tproxy.tests.fuzz.history import came_in, draw_history
from ansible_collections.netedge.tproxy.tests.fuzz.packets import Packets
from ansible_collections.netedge.tproxy.tests.fuzz.program import REASONS
from ansible_collections.netedge.tproxy.tests.fuzz.setup import draw_setup
from ansible_collections.netedge.tproxy.tests.fuzz.trial import CASES, Difference, Trial, shrink, write_case

PACKETS_PER_SETUP = 4000
# A test run lets no socket be assigned, so the first reason stands for a splice, and no listener is compared.
UNSEEN = {"assign_error", "wrong_listener"}
FRAGMENT_SECONDS = 10  # of the 30 for which the program remembers a first fragment
ENOUGH_FOR_EVERY_REASON = 10 * PACKETS_PER_SETUP


class Fault(Exception):
    """Program and model are not of one mind. `kind` is one word for a table."""

    def __init__(self, kind: str, message: str, difference: Difference | None = None):
        super().__init__(message)
        self.kind, self.difference = kind, difference


def try_setup(trial: Trial, name: str, packets: int) -> Counter:
    """Judge packets of the setup that is drawn from `name`; return how often each reason was given. Raises Fault."""
    chance = random.Random(name)
    setup = draw_history(draw_setup(chance), chance)
    try:
        trial.tell(setup)
    except Exception as crash:
        raise Fault("crash", f"the rules could not be compiled: {crash!r}") from crash
    source, seen = Packets(setup, trial.host.sockets, chance), Counter()
    forgotten = time.monotonic()
    for _number in range(packets):
        if time.monotonic() - forgotten > FRAGMENT_SECONDS:
            trial.forget_fragments()
            source.fragments.clear()
            forgotten = time.monotonic()
        arrived = source.draw()
        said, wanted = trial.ask(arrived)
        if said != wanted:
            history = [*setup["history"], *map(came_in, source.fragments)]
            difference = Difference({**setup, "history": history}, arrived, said, wanted)
            raise Fault("packet", "a packet is judged differently", difference)
        seen[said.reason] += 1
    _judge_the_rest(trial)
    return seen


def _judge_the_rest(trial: Trial) -> None:
    miscounted = trial.program.miscounted()
    if miscounted:
        raise Fault("counter", "; ".join(miscounted[:5]))
    unlike = trial.unlike_firsts()
    if unlike:
        raise Fault("fragment", unlike)
    try:
        trial.program.verify()
    except VerificationFailed as refusal:
        raise Fault("verifier", f"the product's verifier refuses an image that did well: {refusal}") from refusal


def run(packets: int, seed: str, only: int | None = None, cases: pathlib.Path = CASES) -> int:
    """Judge at least the given number of packets, print the result and return the exit status."""
    print(f"seed {seed}")
    try:
        trial = Trial()
    except TproxyError as refusal:
        print(f"not loaded: {refusal}\n{refusal.details.get('log', '')}")
        return 2
    print(trial.program.summary())
    seen, clocks, number = Counter(), _clocks(), only or 0
    try:
        while sum(seen.values()) < packets:
            seen += try_setup(trial, f"{seed}:{number}", PACKETS_PER_SETUP)
            number += 1
    except Fault as fault:
        _report(trial, fault, f"seed {seed}, setup {number}", cases)
        return 1
    finally:
        trial.close()
    took = [after - before for before, after in zip(clocks, _clocks())]
    return _sum_up(seen, number - (only or 0), *took)


def _clocks() -> tuple:
    return time.perf_counter(), time.process_time()


def _report(trial: Trial, fault: Fault, found: str, cases: pathlib.Path) -> None:
    print(f"killed by: {fault.kind}\n{found}: {fault}")
    if fault.difference:
        smaller = shrink(trial, fault.difference)
        path = write_case(smaller, found, cases)
        print(f"program: {smaller.said}\nmodel:   {smaller.wanted}")
        print(f"on {smaller.arrived.interface}, {len(smaller.setup['rules'])} rules: {smaller.arrived.frame.hex()}")
        print(f"written to {path}")


def _sum_up(seen: Counter, setups: int, seconds: float, cpu_seconds: float) -> int:
    packets = sum(seen.values())
    print(", ".join(f"{reason} {count}" for reason, count in seen.most_common()))
    print(f"{packets} packets in {setups} setups, no difference")
    print(f"{packets / seconds:.0f} packets per second, {packets / cpu_seconds:.0f} per second of CPU time")
    missing = set(REASONS.values()) - set(seen) - UNSEEN
    if missing and packets >= ENOUGH_FOR_EVERY_REASON:
        print(f"no packet came to: {', '.join(sorted(missing))}")
        return 1
    return 0


def main() -> int:
    """Read the options."""
    parser = argparse.ArgumentParser("tests/fuzz/run", description="Compare the BPF program with the reference model.")
    parser.add_argument("--packets", type=int, default=200_000, help="at least so many (200000)")
    parser.add_argument("--seed", help="what a run printed, to do it again; else a new one")
    parser.add_argument("--setup", type=int, help="begin with this setup of the seed")
    parser.add_argument("--cases", type=pathlib.Path, default=CASES, help="where a difference is written")
    options = parser.parse_args()
    seed = options.seed or str(random.SystemRandom().randrange(1 << 32))
    return run(options.packets, seed, options.setup, options.cases)


if __name__ == "__main__":
    sys.exit(main())
