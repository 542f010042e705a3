# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""An operation, which is the work of one module or one command, its options and its result.

An operation that only reads runs once. One that changes the router passes through the pipeline of
operations/execute.py. Each operation names its pipeline, so a module that only reads does not ship that code. The front
ends turn the result into Ansible's dict or into text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..system.open_core import open_core
from ..system.system import System

# The parameters of a module or a command by name. The argument specification checks their types.
Options = Mapping[str, Any]
# Values that JSON can hold, by the names that the modules document.
Answer = dict[str, Any]


class Diff(NamedTuple):
    """The state before and after an operation, as Ansible prints it with --diff."""

    before: str | Answer
    after: str | Answer


class RuleChanges(NamedTuple):
    """The rules that an operation changed, as numbers, their owners, and the generation that has them."""

    owners: tuple[str, ...]
    added: int
    changed: int
    removed: int
    generation: int


@dataclass(frozen=True)
class Result:
    """The result of one operation; in check mode the predicted result.

    `data` has the return values of the module beside `changed`. `released_interfaces` are the names of the interfaces
    that the operation stopped managing on purpose: the state file forgets them. `pending` says that the change waits
    for confirmation, so the state file must not have it yet. `may_cut_off`: the change can cut the operator off, so it
    is confirmed without being asked to. `meets_packets` says whether a packet can meet the change; None: the pipeline
    looks for an attached program. `pins_program`: the operation pins the program with its blob.
    `replaces_state_file`: it writes or removes the state file itself. The audit trail names the `rule_changes`.
    """

    changed: bool
    data: Answer = field(default_factory=dict)
    diff: Diff | None = None
    warnings: tuple[str, ...] = ()
    released_interfaces: tuple[str, ...] = ()
    pending: bool = False
    may_cut_off: bool = True
    meets_packets: bool | None = None
    pins_program: bool = False
    replaces_state_file: bool = False
    rule_changes: RuleChanges | None = None

    def with_warnings(self, warnings: Iterable[str]) -> Result:
        """Return the result with more warnings behind its own."""
        return replace(self, warnings=(*self.warnings, *warnings))

    def with_data(self, **values: object) -> Result:
        """Return the result with more return values."""
        return replace(self, data={**self.data, **values})

    def as_dict(self) -> Answer:
        """Return the values that a module returns, with `warnings` and, where there is one, `diff`."""
        diff = {"diff": self.diff._asdict()} if self.diff else {}
        return {"changed": self.changed, **self.data, "warnings": list(self.warnings), **diff}


def run_once(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation without a pipeline: it only reads, or its changes are not part of the state file."""
    return operation.function(with_absolute_pin_dir(options), system, check_mode)


def with_absolute_pin_dir(options: Options) -> Options:
    """Return the options with the absolute pin folder, as the state file has it."""
    return {**options, "pin_dir": os.path.abspath(options["pin_dir"])} if "pin_dir" in options else options


@dataclass(frozen=True)
class Operation:
    """A named function of options, system and check mode.

    `confirmable`: the operation takes `confirm_timeout`. `opens` returns the adapters that a module needs for it.
    """

    name: str
    function: Callable[[Options, System, bool], Result]
    pipeline: Callable[[Operation, Options, System, bool], Result] = run_once
    confirmable: bool = False
    opens: Callable[[], System] = open_core

    def execute(self, options: Options, system: System, check_mode: bool) -> Result:
        """Return the result of a run; in check mode the predicted result, and nothing changes.

        Raises TproxyError when the operation refuses or fails.
        """
        return self.pipeline(self, options, system, check_mode)
