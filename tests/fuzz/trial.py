# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program and the model side by side, packet by packet; and a difference made small enough to read."""

from __future__ import annotations

import copy
import hashlib
import json
import pathlib
from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError
from ansible_collections.netedge.tproxy.tests.fuzz.model.judge import Arrival

from .frames import SHORTEST, kind_of
from .host import Host
from .packets import Arrived
from .program import Program, Said
from .setup import model_of

CASES = pathlib.Path(__file__).resolve().parent / "cases"


class Difference(NamedTuple):
    """A packet for which program and model give different results."""

    setup: dict
    arrived: Arrived
    said: Said
    wanted: Said


class Trial:
    """Both sides, told the same."""

    kind = Program

    def __init__(self):
        self.host = Host()
        self.program = self.kind()
        self.setup = None

    def close(self) -> None:
        """Leave the namespace of the host."""
        self.host.close()

    def tell(self, setup: dict) -> None:
        """Put a setup in force on both sides, and let them see its history as far as this kernel can show it."""
        if setup.get("history") and not self.program.is_received:
            events = [each for each in setup["history"] if each["way"] == "out" and each["from"] is None]
            setup = {**setup, "history": events}
        if self.host.is_stale():
            self.host.close()
            self.host = Host()
        self.program.tell(setup)
        self._tell_model(setup)

    def _tell_model(self, setup: dict) -> None:
        self.setup = setup
        self._router, rules = model_of(setup, self.host.sockets)
        for event in setup.get("history", ()):
            frame = bytes.fromhex(event["frame"])
            seen = Arrival(event["interface"], frame, kind_of(frame))
            if event["way"] == "out":
                self._router.leave(seen, event["from"] is not None)
            else:
                self._enter(seen._replace(vlan=event.get("tag")))
        self._slots = {id(None): 0, **{id(rule): slot for rule, slot in zip(rules, setup["slots"])}}

    def _enter(self, seen: Arrival) -> None:
        """Let the model see a packet that came in before."""
        if self._router.judge(seen).reason != "spliced":  # a test run cannot splice
            self._router.enter(seen)
        self._note_fragment(seen)

    def _note_fragment(self, seen: Arrival) -> None:
        if self.program.is_received:
            self._router.note_fragment(seen)

    def forget_fragments(self) -> None:
        """Let both sides forget the first fragments, before their time is over."""
        self.program.forget_fragments()
        self._router.firsts.clear()

    def unlike_firsts(self) -> str:
        """Return a sentence if the sides do not remember as many first fragments, or ""."""
        known, wanted = self.program.known_firsts(), len(self._router.firsts)
        return "" if known == wanted else f"the program remembers {known} first fragments, the model {wanted}"

    def ask(self, arrived: Arrived) -> tuple:
        """Return (result of the program, result of the model)."""
        return self.program.ask(arrived), self._wanted(arrived)

    def _wanted(self, arrived: Arrived) -> Said:
        interface, frame, tag = arrived
        seen = Arrival(interface, frame, kind_of(frame), tag)
        reason, verdict, returned, rule, marked = self._router.judge(seen)
        self._note_fragment(seen)
        return Said(reason, verdict, returned, self._slots[id(rule)], self.program.mark(interface, marked))

    def differs(self, setup: dict, arrived: Arrived) -> Difference | None:
        """Return the difference that a packet makes in a setup, or None; a setup that cannot be told makes none."""
        try:
            self.tell(copy.deepcopy(setup))
        except TproxyError:
            return None
        said, wanted = self.ask(arrived)
        return None if said == wanted else Difference(self.setup, arrived, said, wanted)


# ---- smaller -----------------------------------------------------------------------------


def shrink(trial: Trial, difference: Difference) -> Difference:
    """Return a difference with fewer rules, less history and policy, and a shorter frame."""
    for smaller in (_less_history, _fewer_rules, _one_interface, _less_policy, _shorter_frame):
        difference = smaller(trial, difference)
    return difference


def _fewer_rules(trial: Trial, difference: Difference) -> Difference:
    return _fewer(trial, difference, ("rules", "slots"))


def _fewer(trial: Trial, difference: Difference, names: tuple) -> Difference:
    """Take members from lists of the setup that have the same length."""
    size = len(difference.setup.get(names[0], ()))
    while size:
        for start in range(len(difference.setup[names[0]]) - size, -1, -size):
            setup = copy.deepcopy(difference.setup)
            for name in names:
                del setup[name][start : start + size]
            difference = trial.differs(setup, difference.arrived) or difference
        size //= 2
    return difference


def _less_history(trial: Trial, difference: Difference) -> Difference:
    return _fewer(trial, difference, ("history",))


def _one_interface(trial: Trial, difference: Difference) -> Difference:
    setup = copy.deepcopy(difference.setup)
    setup["interfaces"].update({name: None for name in setup["interfaces"] if name != difference.arrived.interface})
    return trial.differs(setup, difference.arrived) or difference


def _less_policy(trial: Trial, difference: Difference) -> Difference:
    for option, value in (("management", []), ("addresses", []), ("accept", "ok"), ("allow_echo", False)):
        setup = copy.deepcopy(difference.setup)
        policy = setup["interfaces"][difference.arrived.interface]
        if policy:
            policy[option] = value
            difference = trial.differs(setup, difference.arrived) or difference
    return difference


def _shorter_frame(trial: Trial, difference: Difference) -> Difference:
    def cut(difference: Difference, size: int) -> Difference | None:
        frame = difference.arrived.frame
        if len(frame) - size < max(SHORTEST.get(kind_of(frame), 0), 15):
            return None
        return trial.differs(difference.setup, difference.arrived._replace(frame=frame[:-size]))

    for size in (1024, 256, 64, 16, 4, 1):
        smaller = cut(difference, size)
        while smaller:
            difference, smaller = smaller, cut(smaller, size)
    return difference


# ---- case files --------------------------------------------------------------------------


def write_case(difference: Difference, found: str, folder: pathlib.Path = CASES) -> pathlib.Path:
    """Write a case that test_cases.py replays; return its path."""
    interface, frame, tag = difference.arrived
    case = {
        "found": found,
        "expected": difference.wanted._asdict(),
        "program_said": difference.said._asdict(),
        "interface": interface,
        "tag": tag,
        "frame": frame.hex(),
        "setup": difference.setup,
    }
    digest = hashlib.sha256(json.dumps([case["frame"], case["setup"]]).encode()).hexdigest()[:8]
    path = folder / f"{difference.wanted.reason}-{digest}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")
    return path


def read_case(path: pathlib.Path) -> tuple:
    """Return (setup, packet, expected result)."""
    case = json.loads(path.read_text(encoding="utf-8"))
    arrived = Arrived(case["interface"], bytes.fromhex(case["frame"]), case["tag"])
    return case["setup"], arrived, Said(**case["expected"])
