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
from .scene import model_of

CASES = pathlib.Path(__file__).resolve().parent / "cases"


class Difference(NamedTuple):
    """A packet of which program and model say different things."""

    scene: dict
    arrived: Arrived
    said: Said
    wanted: Said


class Trial:
    """Both sides, told the same."""

    kind = Program

    def __init__(self):
        self.host = Host()
        self.program = self.kind()
        self.scene = None

    def close(self) -> None:
        """Leave the namespace of the host."""
        self.host.close()

    def tell(self, scene: dict) -> None:
        """Put a scene in force on both sides."""
        if self.host.is_stale():
            self.host.close()
            self.host = Host()
        self.program.tell(scene)
        self._tell_model(scene)

    def _tell_model(self, scene: dict) -> None:
        self.scene = scene
        self._router, rules = model_of(scene, self.host.sockets)
        self._slots = {id(None): 0, **{id(rule): slot for rule, slot in zip(rules, scene["slots"])}}

    def ask(self, arrived: Arrived) -> tuple:
        """Return (what the program says, what the model says)."""
        return self.program.ask(arrived), self._wanted(arrived)

    def _wanted(self, arrived: Arrived) -> Said:
        interface, frame, tag = arrived
        reason, verdict, returned, rule, marked = self._router.judge(Arrival(interface, frame, kind_of(frame), tag))
        return Said(reason, verdict, returned, self._slots[id(rule)], self.program.mark(interface, marked))

    def differs(self, scene: dict, arrived: Arrived) -> Difference | None:
        """Return the difference that a packet makes in a scene, or None; a scene that cannot be told makes none."""
        if scene != self.scene:
            try:
                self.tell(copy.deepcopy(scene))
            except TproxyError:
                return None
        said, wanted = self.ask(arrived)
        return None if said == wanted else Difference(self.scene, arrived, said, wanted)


# ---- smaller -----------------------------------------------------------------------------


def shrink(trial: Trial, difference: Difference) -> Difference:
    """Return a difference with fewer rules, less policy and a shorter frame."""
    for smaller in (_fewer_rules, _one_interface, _less_policy, _shorter_frame):
        difference = smaller(trial, difference)
    return difference


def _fewer_rules(trial: Trial, difference: Difference) -> Difference:
    size = len(difference.scene["rules"])
    while size:
        for start in range(len(difference.scene["rules"]) - size, -1, -size):
            scene = copy.deepcopy(difference.scene)
            for name in ("rules", "slots"):
                del scene[name][start : start + size]
            difference = trial.differs(scene, difference.arrived) or difference
        size //= 2
    return difference


def _one_interface(trial: Trial, difference: Difference) -> Difference:
    scene = copy.deepcopy(difference.scene)
    scene["interfaces"].update({name: None for name in scene["interfaces"] if name != difference.arrived.interface})
    return trial.differs(scene, difference.arrived) or difference


def _less_policy(trial: Trial, difference: Difference) -> Difference:
    for option, value in (("management", []), ("addresses", []), ("accept", "ok"), ("allow_echo", False)):
        scene = copy.deepcopy(difference.scene)
        policy = scene["interfaces"][difference.arrived.interface]
        if policy:
            policy[option] = value
            difference = trial.differs(scene, difference.arrived) or difference
    return difference


def _shorter_frame(trial: Trial, difference: Difference) -> Difference:
    def cut(difference: Difference, size: int) -> Difference | None:
        frame = difference.arrived.frame
        if len(frame) - size < max(SHORTEST.get(kind_of(frame), 0), 15):
            return None
        return trial.differs(difference.scene, difference.arrived._replace(frame=frame[:-size]))

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
        "scene": difference.scene,
    }
    digest = hashlib.sha256(json.dumps([case["frame"], case["scene"]]).encode()).hexdigest()[:8]
    path = folder / f"{difference.wanted.reason}-{digest}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")
    return path


def read_case(path: pathlib.Path) -> tuple:
    """Return (scene, packet, what is expected)."""
    case = json.loads(path.read_text(encoding="utf-8"))
    arrived = Arrived(case["interface"], bytes.fromhex(case["frame"]), case["tag"])
    return case["scene"], arrived, Said(**case["expected"])
